"""Lists the images of a folder of class folders."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

from pipeline.sources import passed_over
from pipeline.sources.images import Listing, SourceImage, read_file
from pipeline.sources.walk import walk_folder

# The folders of a source that has its own splits, in lower case -> the split.
_SPLIT_OF_FOLDER = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

Reader = Callable[[], bytes]


def list_folder(folder: pathlib.Path) -> Listing:
    """Lists the regular files below the class folders of a folder.

    The notes of the listing say what is passed over, such as films and hidden files.

    Raises:
      ValueError: a class folder holds no file.
    """
    walk = walk_folder(folder)
    with_files = {name.partition("/")[0] for name in walk.paths}
    empty = [name for name in walk.class_folders if name not in with_files]
    if empty:
        raise ValueError(
            f"Every class folder needs images. Received: {folder / empty[0]}, which "
            "holds no file that could be a photograph; add images or remove the folder."
        )
    return label_by_folder(
        {name: functools.partial(read_file, path) for name, path in walk.paths.items()},
        passed_over.describe(walk.passed_over),
    )


def label_by_folder(readers: Mapping[str, Reader], notes: tuple[str, ...]) -> Listing:
    """Returns the images of a relative name -> reader; the first folder is the label.

    A folder that holds everything else is removed from the names. Folders that are
    named as splits, with class folders inside, are the splits of the source. A folder
    that only repeats the class folders, as in Kaggle's flowers archive, is a second
    copy: only those of its files that differ from the first copy are listed.
    """
    readers = _remove_outer_folders(readers)
    if _is_layout_of_splits(readers):
        listing = _label_in_splits(readers)
        return dataclasses.replace(listing, notes=(*listing.notes, *notes))
    repeating_folders = _find_repeating_folders(readers)
    images = []
    repeated: collections.Counter[str] = collections.Counter()
    for name, read in readers.items():
        first, _, inner_name = name.partition("/")
        if first not in repeating_folders:
            images.append(SourceImage(name, first, read))
        elif inner_name in readers and _same_bytes(read, readers[inner_name]):
            repeated[first] += 1
        else:
            images.append(SourceImage(name, inner_name.partition("/")[0], read))
    repeats = tuple(
        f"{first}/ repeats the class folders: {count} files are there already"
        for first, count in sorted(repeated.items())
    )
    return Listing(images, (*repeats, *notes))


def _remove_outer_folders(readers: Mapping[str, Reader]) -> dict[str, Reader]:
    """Removes a first folder that all names share; drops names without a folder."""
    while len({name.split("/")[0] for name in readers}) == 1 and all(
        name.count("/") > 1 for name in readers
    ):
        readers = {name.partition("/")[2]: read for name, read in readers.items()}
    return {name: read for name, read in readers.items() if "/" in name}


def _is_layout_of_splits(names: Mapping[str, Reader]) -> bool:
    """Tells whether every first folder is named as a split, and has class folders.

    A first folder may have none: the images of many test folders have no classes.
    """
    folders = {name.split("/")[0] for name in names}
    with_classes = {name.split("/")[0] for name in names if name.count("/") > 1}
    splits = {_SPLIT_OF_FOLDER.get(folder.lower()) for folder in folders}
    return None not in splits and any(
        _SPLIT_OF_FOLDER[folder.lower()] == "train" for folder in with_classes
    )


def _label_in_splits(readers: Mapping[str, Reader]) -> Listing:
    """Lists SPLIT/CLASS/FILE."""
    images, without_class = [], []
    for name, read in readers.items():
        folder, _, inner_name = name.partition("/")
        label, has_class, _ = inner_name.partition("/")
        if has_class:
            split = _SPLIT_OF_FOLDER[folder.lower()]
            images.append(SourceImage(name, label, read, split))
        else:
            without_class.append(name)
    counts = collections.Counter(image.split for image in images)
    listed = ", ".join(f"{split} {n}" for split, n in sorted(counts.items()))
    notes = [f"the folders are splits, and are kept: {listed} (--resplit ignores them)"]
    if without_class:
        notes.append(
            f"passed over, in no class folder: {len(without_class)} files, for example "
            f"{min(without_class)}"
        )
    return Listing(images, tuple(notes))


def _find_repeating_folders(names: Mapping[str, Reader]) -> set[str]:
    """Returns the first folders whose subfolders are all named like class folders."""
    subfolders = collections.defaultdict(set)
    for name in names:
        first, _, inner_name = name.partition("/")
        subfolders[first].add(inner_name.partition("/")[0] if "/" in inner_name else "")
    return {
        first
        for first, inner in subfolders.items()
        if inner and inner <= set(subfolders) - {first}
    }


def _same_bytes(left: Reader, right: Reader) -> bool:
    try:
        return left() == right()
    except (OSError, ValueError):
        return False
