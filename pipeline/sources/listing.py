"""Lists the images of a source, whatever its kind."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping

from pipeline.sources import class_names, drawn_flowers
from pipeline.sources.archives import list_archive
from pipeline.sources.check_source import TABLES, check_source
from pipeline.sources.csv_file import list_csv
from pipeline.sources.folders import list_folder
from pipeline.sources.hubs import list_kaggle, list_tfds
from pipeline.sources.images import Listing, SourceImage
from pipeline.system import texts

SAMPLE_IMAGES_PER_CLASS = 180


def list_images(
    source: str,
    *,
    seed: int,
    work_dir: pathlib.Path,
    class_level: int | None = None,
    csv_columns: Mapping[str, str] | None = None,
) -> Listing:
    """Lists the images of a source; opens no image of a folder or an archive.

    Args:
      source: a folder with one folder per class, a .zip or .tar of such a folder,
        "sample", "kaggle:OWNER/NAME", "tfds:NAME" or "csv:FILE".
      seed: the seed from which the images of "sample" are drawn.
      work_dir: where "tfds:" writes its images as files, and a compressed .tar is
        uncompressed. It must exist as long as the images are read.
      class_level: of a folder or an archive, the folder that is the class, 1 for the
        first one; None finds it out.
      csv_columns: for csv:, the names of the columns; see list_csv.

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
        listing = list_csv(pathlib.Path(address), columns=csv_columns)
    elif os.path.isdir(source):
        listing = list_folder(pathlib.Path(source), class_level=class_level)
    else:
        listing = list_archive(
            pathlib.Path(source), work_dir=work_dir, class_level=class_level
        )
    listing = class_names.unite_forms(listing)
    labels = sorted({image.label for image in listing.images})
    if len(labels) < 2:
        content = f"one class, '{labels[0]}'" if labels else "no image"
        notes = "; ".join(("", *listing.notes))
        raise ValueError(
            "A classifier needs at least two classes: a folder with one folder per "
            f"class, and the images inside. Received: --source={source}, which holds "
            f"{content}{notes}.{_propose_tables(source)}"
        )
    # TFDS keeps the names as lines of a text file.
    lost = [label for label in labels if label != label.strip() or "\n" in label]
    if lost:
        raise ValueError(
            "The name of a class must have no line break, and no blank at its ends. "
            f"Received: {lost[0]!r} in --source={source}. Rename it."
        )
    return dataclasses.replace(
        listing,
        images=sorted(listing.images, key=lambda image: image.name),
        notes=(*listing.notes, *class_names.find_look_alikes(labels)),
    )


def _propose_tables(source: str) -> str:
    """Returns a sentence that proposes the tables in a folder; "" if it has none."""
    if not os.path.isdir(source):
        return ""
    names = sorted(name for name in os.listdir(source) if name.endswith(TABLES))
    tables = [f"--source=csv:{os.path.join(source, name)}" for name in names]
    return f" A table may name them: {texts.list_some(tables)}." if tables else ""


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
