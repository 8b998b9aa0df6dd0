"""A source string -> a list of images, each with a name, a label and a reader."""

import dataclasses
import functools
import os
import pathlib
import zipfile

from pipeline.sources import drawn_flowers
from pipeline.sources.csv_file import list_csv
from pipeline.sources.folders import list_folder, list_zip
from pipeline.sources.hubs import list_kaggle, list_tfds
from pipeline.sources.images import Listing, SourceImage

SAMPLE_IMAGES_PER_CLASS = 60


def check_source(source: str) -> None:
    """Looks at what kind of source it is, and no further.

    Raises:
      ValueError: it is none.
    """
    if not (
        source == "sample"
        or source.partition(":")[0] in ("kaggle", "tfds", "csv")
        or os.path.isdir(source)
        or zipfile.is_zipfile(source)
    ):
        raise ValueError(
            "--source must be a folder that holds one folder a class, a .zip of one, "
            "csv:FILE, kaggle:OWNER/NAME, tfds:NAME or sample. Received: "
            f"--source={source}, which is "
            + ("another file." if os.path.exists(source) else "not there.")
        )


def list_images(source: str, *, seed: int, work_dir: pathlib.Path) -> Listing:
    """Lists the images of a source; reads none of those in a folder or an archive.

    Args:
      source: a folder that holds one folder a class, a .zip of one, "sample",
        "kaggle:OWNER/NAME", "tfds:NAME" or "csv:FILE".
      seed: what the sample is drawn from.
      work_dir: where a source that has no files of its own ("tfds:") puts them; must
        last as long as the images are read.

    Raises:
      ValueError: the source cannot be used; says what to do.
    """
    check_source(source)
    kind, _, rest = source.partition(":")
    if source == "sample":
        listing = _list_sample(seed)
    elif kind == "kaggle":
        listing = list_kaggle(rest)
    elif kind == "tfds":
        listing = list_tfds(rest, work_dir)
    elif kind == "csv":
        listing = list_csv(pathlib.Path(rest))
    elif os.path.isdir(source):
        listing = list_folder(pathlib.Path(source))
    else:
        listing = list_zip(pathlib.Path(source))
    labels = sorted({image.label for image in listing.images})
    if len(labels) < 2:
        found = f"one class, '{labels[0]}'" if labels else "no image"
        raise ValueError(
            "A classifier needs at least two classes: a folder that holds one folder a "
            f"class, with the images inside. Received: --source={source}, which holds "
            f"{found}."
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


# Looking at an image and writing it both read it; drawing takes 20 ms.
_draw_once = functools.cache(drawn_flowers.draw_jpeg)
