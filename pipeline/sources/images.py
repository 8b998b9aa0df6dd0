"""A source string -> a list of images, each with a name, a label and a reader."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One image before anybody has looked at it.

    name: relative path with "/" separators, unique in the source. It is the key of the
      image everywhere, so that no absolute path can change an order or a split.
    label: class name.
    read: returns the file's bytes; can be pickled.
    split: the source's own split, if it has one.
    group: the source's own group: what shares one stays in one split.
    """

    name: str
    label: str
    read: Callable[[], bytes]
    split: str | None = None
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """images: sorted by name. notes: what a person should know of the source."""

    images: list[SourceImage]
    notes: tuple[str, ...] = ()


def read_file(path: str) -> bytes:
    """With a path as text: it goes to and from another process at a third the cost."""
    with open(path, "rb") as file:
        return file.read()


SPLITS = ("train", "validation", "test")
