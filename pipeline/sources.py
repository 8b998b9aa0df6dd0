"""A source string -> a list of images, each with a name, a label and a reader."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable

from pipeline import sample

SAMPLE_IMAGES_PER_CLASS = 60


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One image before anybody has looked at it.

    name: relative path with "/" separators, unique in the source. It is the key of the
      image everywhere, so that no absolute path can change an order or a split.
    label: class name.
    read: returns the file's bytes; can be pickled.
    """

    name: str
    label: str
    read: Callable[[], bytes]


def list_images(source: str, *, seed: int) -> list[SourceImage]:
    """Lists the images of a source, sorted by name; reads none of them.

    Args:
      source: "sample", or a folder that holds one folder a class.
      seed: what the sample is drawn from; a folder ignores it.

    Raises:
      ValueError: no such source, no class folder, fewer than two classes, or a class
        without a file.
    """
    if source == "sample":
        return _list_sample(seed)
    if not os.path.isdir(source):
        raise ValueError(
            "--source must be a folder that holds one folder a class, or the word "
            f"'sample'. Received: --source={source}, which is "
            + ("a file." if os.path.exists(source) else "not there.")
        )
    return _list_folder(pathlib.Path(source))


def _list_sample(seed: int) -> list[SourceImage]:
    return [
        SourceImage(
            name=f"{label}/{index:03d}.jpg",
            label=label,
            read=functools.partial(_draw_once, label, index, seed=seed),
        )
        for label in sample.CLASSES
        for index in range(SAMPLE_IMAGES_PER_CLASS)
    ]


# Looking at an image and writing it both read it; drawing takes 20 ms.
_draw_once = functools.cache(sample.draw_jpeg)


def _list_folder(folder: pathlib.Path) -> list[SourceImage]:
    classes = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not classes:
        raise ValueError(
            "A source holds one folder a class, with the images inside. Received: "
            f"--source={folder}, which holds no folder."
        )
    if len(classes) == 1:
        inner = folder / classes[0]
        nested = any(entry.is_dir() for entry in inner.iterdir())
        hint = f" Did you mean --source={inner}?" if nested else ""
        raise ValueError(
            "A classifier needs at least two classes. Received: "
            f"--source={folder}, which holds the one class folder '{classes[0]}'.{hint}"
        )
    images = []
    for label in classes:
        files = _files_below(folder / label)
        if not files:
            raise ValueError(
                f"Every class folder needs images. Received: {folder / label}, which "
                "holds no file; add images or remove the folder."
            )
        for path in files:
            name = path.relative_to(folder).as_posix()
            images.append(SourceImage(name=name, label=label, read=path.read_bytes))
    return sorted(images, key=lambda image: image.name)


def _files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """All files below a folder, without hidden ones (.DS_Store and the like)."""
    found = []
    for directory, subdirectories, names in os.walk(folder):
        subdirectories[:] = [d for d in subdirectories if not d.startswith(".")]
        found += [pathlib.Path(directory) / n for n in names if not n.startswith(".")]
    return found
