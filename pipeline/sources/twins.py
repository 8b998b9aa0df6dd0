"""Groups the files that phones and programs keep of one photograph, by their names."""

import collections
import dataclasses
import pathlib
import re

from pipeline.sources.images import Listing, SourceImage
from pipeline.system import texts

# Suffixes of the second file of a photograph, in lower case. Other pairs of suffixes,
# such as 1.jpg and 1.png, are often different photographs.
_SECOND_SUFFIXES = (".heic", ".heif", ".hif", ".avif", ".jxl", ".tif", ".tiff")

# How phones name an edited copy: IMG_E1234 of IMG_1234 (iPhone), IMG_1234-edited
# (Google Photos), IMG_1234~2 (Pixel).
_IPHONE_EDIT = re.compile(r"(?i)(img_)e(\d{4,})")
_EDIT_ENDING = re.compile(r"(?i)(.+?)([-_ ]\(?edit(ed)?\)?|~\d)")


def group_twins(listing: Listing) -> Listing:
    """Gives a group to files of one photograph, so that they share a split.

    These are IMG_1234.HEIC beside IMG_1234.jpg, and edited copies beside their
    original, in one folder. An image that has a group keeps it.
    """
    members: dict[tuple[str, str], list[SourceImage]] = collections.defaultdict(list)
    for image in listing.images:
        members[_find_original(image.name)].append(image)
    twins = [images for images in members.values() if _are_twins(images)]
    if not twins:
        return listing
    group_of = {
        image.name: image.group or images[0].name
        for images in twins
        for image in images
    }
    examples = [" + ".join(image.name for image in images) for images in twins]
    note = (
        "several files of one photograph by their names, kept in one split: "
        f"{len(twins)} ({texts.list_some(examples)})"
    )
    images = [
        dataclasses.replace(image, group=group_of.get(image.name, image.group))
        for image in listing.images
    ]
    return Listing(images, (*listing.notes, note))


def _find_original(name: str) -> tuple[str, str]:
    """Returns the folder of a file, and the stem that its original would have."""
    path = pathlib.PurePosixPath(name)
    stem = path.stem
    if match := _IPHONE_EDIT.fullmatch(stem):
        stem = match[1] + match[2]
    elif match := _EDIT_ENDING.fullmatch(stem):
        stem = match[1]
    return str(path.parent), stem.lower()


def _are_twins(images: list[SourceImage]) -> bool:
    paths = [pathlib.PurePosixPath(image.name) for image in images]
    has_second_format = any(path.suffix.lower() in _SECOND_SUFFIXES for path in paths)
    different_stems = len({path.stem.lower() for path in paths}) > 1
    return len(images) > 1 and (has_second_format or different_stems)
