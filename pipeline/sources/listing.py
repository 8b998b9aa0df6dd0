"""Lists the images of a source, whatever its kind."""

import dataclasses
import functools
import os
import pathlib
import zipfile

from pipeline.sources import drawn_flowers
from pipeline.sources.archives import list_zip
from pipeline.sources.csv_file import list_csv
from pipeline.sources.folders import list_folder
from pipeline.sources.hubs import list_kaggle, list_tfds
from pipeline.sources.images import Listing, SourceImage

SAMPLE_IMAGES_PER_CLASS = 180


def check_source(source: str) -> None:
    """Checks that the source is of a known kind, and that a file or folder exists.

    Raises:
      ValueError: it is not.
    """
    if not (
        source == "sample"
        or source.partition(":")[0] in ("kaggle", "tfds", "csv")
        or os.path.isdir(source)
        or (os.path.isfile(source) and zipfile.is_zipfile(source))
    ):
        problem = "is another file" if os.path.exists(source) else "does not exist"
        raise ValueError(
            "--source must be a folder with one folder per class, a .zip of such a "
            "folder, csv:FILE, kaggle:OWNER/NAME, tfds:NAME or sample. Received: "
            f"--source={source}, which {problem}."
        )


def list_images(
    source: str,
    *,
    seed: int,
    work_dir: pathlib.Path,
    class_level: int | None = None,
) -> Listing:
    """Lists the images of a source; opens no image of a folder or an archive.

    Args:
      source: a folder with one folder per class, a .zip of such a folder, "sample",
        "kaggle:OWNER/NAME", "tfds:NAME" or "csv:FILE".
      seed: the seed from which the images of "sample" are drawn.
      work_dir: where "tfds:" writes its images as files. It must exist as long as the
        images are read.
      class_level: of a folder or an archive, the folder that is the class, 1 for the
        first one; None finds it out.

    Raises:
      ValueError: the source cannot be used.
    """
    check_source(source)
    kind, _, address = source.partition(":")
    if source == "sample":
        listing = _list_sample(seed)
    elif kind == "kaggle":
        listing = list_kaggle(address, class_level=class_level)
    elif kind == "tfds":
        listing = list_tfds(address, work_dir)
    elif kind == "csv":
        listing = list_csv(pathlib.Path(address))
    elif os.path.isdir(source):
        listing = list_folder(pathlib.Path(source), class_level=class_level)
    else:
        listing = list_zip(pathlib.Path(source), class_level=class_level)
    labels = sorted({image.label for image in listing.images})
    if len(labels) < 2:
        content = f"one class, '{labels[0]}'" if labels else "no image"
        raise ValueError(
            "A classifier needs at least two classes: a folder with one folder per "
            f"class, and the images inside. Received: --source={source}, which holds "
            f"{content}."
        )
    return dataclasses.replace(
        listing, images=sorted(listing.images, key=lambda image: image.name)
    )


def _list_sample(seed: int) -> Listing:
    return Listing(
        [
            SourceImage(
                name=f"{label}/{index:03d}.jpg",
                label=label,
                read=functools.partial(_draw_once, label, index, seed=seed),
            )
            for label in drawn_flowers.CLASSES
            for index in range(SAMPLE_IMAGES_PER_CLASS)
        ]
    )


# An image is read twice, for the inspection and for the records; drawing takes 20 ms.
_draw_once = functools.cache(drawn_flowers.draw_jpeg)
