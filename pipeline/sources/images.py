"""Holds SourceImage and Listing, which every kind of source returns."""

import dataclasses
from collections.abc import Callable

from pipeline.system import regular_file

SPLITS = ("train", "validation", "test")

# What people call the splits, in lower case.
_SPLIT_OF_NAME = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def find_split(name: str) -> str | None:
    """Returns the split of a usual name, such as "dev" or "Training"; else None."""
    return _SPLIT_OF_NAME.get(name.lower())


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One image of a source; its file is not opened yet.

    name: relative path with "/" separators, unique in the source. Everything uses it as
      the key of the image. It is not absolute, so that the order does not depend on the
      place of the source.
    label: name of the class.
    read: returns the bytes of the file; pickle must be able to store it.
    split: the split that the source assigns, if it assigns one.
    group: the group that the source assigns, if it assigns one. All images of a group
      get the same split.
    source_label: the label in the source, if --corrections has changed it.
    """

    name: str
    label: str
    read: Callable[[], bytes]
    split: str | None = None
    group: str | None = None
    source_label: str | None = None


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decision of --corrections on one image.

    action: relabel, keep or drop.
    source_label: the label in the source.
    label: the label afterwards; empty if the image is dropped.
    """

    name: str
    action: str
    source_label: str
    label: str


@dataclasses.dataclass(frozen=True)
class AppliedCorrections:
    """The corrections that were applied to a listing.

    file: path of the file. sha256: of its bytes.
    decisions: one for each image that the file names.
    """

    file: str
    sha256: str
    decisions: tuple[Decision, ...]


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a source.

    images: in any order; list_images sorts them by name.
    notes: sentences about the source for the user, such as which files were ignored.
    corrections: the corrections that were applied; None without any.
    """

    images: list[SourceImage]
    notes: tuple[str, ...] = ()
    corrections: AppliedCorrections | None = None


def read_file(path: str) -> bytes:
    """Returns the content of a regular file.

    The path is a str: a pathlib.Path takes three times as long to send to a process.

    Raises:
      OSError: see regular_file.read_regular_file.
    """
    return regular_file.read_regular_file(path)
