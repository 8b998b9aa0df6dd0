"""Holds SourceImage and Listing, which every kind of source returns."""

import dataclasses
from collections.abc import Callable

from pipeline.system import regular_file

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One image of a source; its file may not have been opened yet.

    name: relative path with "/" separators, unique in the source. The name is the key
      of the image everywhere: an absolute path could change an order or a split.
    label: name of the class.
    read: returns the bytes of the file; can be pickled.
    split: the split that the source assigns, if it assigns one.
    group: the group that the source assigns, if it assigns one. All images of a group
      get the same split.
    """

    name: str
    label: str
    read: Callable[[], bytes]
    split: str | None = None
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a source.

    images: in any order; list_images sorts them by name.
    notes: sentences about the source for the user, such as which files were ignored.
    """

    images: list[SourceImage]
    notes: tuple[str, ...] = ()


def read_file(path: str) -> bytes:
    """Returns the content of a regular file.

    The path is a str: a pathlib.Path takes three times as long to send to a process.

    Raises:
      OSError: see regular_file.read_regular_file.
    """
    return regular_file.read_regular_file(path)
