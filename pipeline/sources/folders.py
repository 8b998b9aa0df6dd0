"""Lists the images of a folder of class folders."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping

from pipeline.sources import layouts, passed_over, twins
from pipeline.sources.images import Listing, SourceImage, read_file
from pipeline.sources.walk import walk_folder

Reader = Callable[[], bytes]

# The layout with one folder for each class and no splits.
_PLAIN = layouts.Layout()


def list_folder(folder: pathlib.Path, *, class_level: int | None = None) -> Listing:
    """Lists the regular files below the class folders of a folder.

    The notes of the listing say what is passed over, such as films and hidden files.

    class_level: see label_by_folder.

    Raises:
      ValueError: a class folder holds no file, or the folders are no classes.
    """
    walk = walk_folder(folder)
    readers = {
        name: functools.partial(read_file, path) for name, path in walk.paths.items()
    }
    notes = passed_over.describe(walk.passed_over)
    with_files = {name.partition("/")[0] for name in walk.paths}
    empty = [name for name in walk.class_folders if name not in with_files]
    # An empty folder can also tell the layout: test/, or labels/ with only texts.
    names = [*readers, *(f"{name}/" for name in empty)]
    if empty and layouts.find_layout(names, class_level=class_level) == _PLAIN:
        inside = {
            kind: [name for name in found if name.startswith(f"{empty[0]}/")]
            for kind, found in walk.passed_over.items()
        }
        described = "".join(f" ({note})" for note in passed_over.describe(inside))
        raise ValueError(
            f"Every class folder needs images. Received: {folder / empty[0]}, which "
            f"holds no file that could be a photograph{described}; add images or "
            "remove the folder."
        )
    return label_by_folder(readers, notes, class_level=class_level)


def label_by_folder(
    readers: Mapping[str, Reader],
    notes: tuple[str, ...],
    *,
    class_level: int | None = None,
) -> Listing:
    """Lists images whose label is the name of one of their folders.

    If one folder holds all the others, it is removed from the names. A folder that only
    repeats the class folders, as in Kaggle's flowers archive, is a second copy: of its
    files, only those that differ from the first copy are listed. Files of one
    photograph get a common group.

    Args:
      readers: relative name -> function that reads the file.
      notes: sentences about the source, for the notes of the listing.
      class_level: the folder that is the class; 1 is the first one after the folders
        that hold all others. None finds it out.

    Raises:
      ValueError: see layouts.find_layout.
    """
    loose = [name for name in readers if "/" not in name]
    if loose:
        notes = (*notes, *passed_over.describe({passed_over.BESIDE_CLASSES: loose}))
    readers = _remove_outer_folders(readers)
    layout = layouts.find_layout(readers, class_level=class_level)
    if layout != _PLAIN:
        listing = _label_by_layout(readers, layout)
        listing = dataclasses.replace(listing, notes=(*listing.notes, *notes))
        return twins.group_twins(listing)
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
    if class_level is None and not repeating_folders:
        notes = (*layouts.describe_inner_folders(readers), *notes)
    return twins.group_twins(Listing(images, (*repeats, *notes)))


def _remove_outer_folders(readers: Mapping[str, Reader]) -> dict[str, Reader]:
    """Removes a first folder that all names share; drops names without a folder."""
    while len({name.split("/")[0] for name in readers}) == 1 and all(
        name.count("/") > 1 for name in readers
    ):
        readers = {name.partition("/")[2]: read for name, read in readers.items()}
    return {name: read for name, read in readers.items() if "/" in name}


def _label_by_layout(readers: Mapping[str, Reader], layout: layouts.Layout) -> Listing:
    images, without_class = [], []
    for name, read in readers.items():
        label = layout.find_label(name)
        if label is None:
            without_class.append(name)
        else:
            images.append(SourceImage(name, label, read, layout.find_split(name)))
    notes = [layout.note] if layout.note else []
    if layout.split_level is not None:
        counts = collections.Counter(str(image.split) for image in images)
        listed = ", ".join(f"{split} {n}" for split, n in sorted(counts.items()))
        notes = [f"{layout.note}: {listed} (--resplit ignores them)"]
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
