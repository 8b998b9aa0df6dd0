"""Lists the images of a folder of class folders, or of a .zip archive of one."""

import collections
import dataclasses
import functools
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping

from pipeline.sources.images import Listing, SourceImage, read_file

# An archive above these limits is taken for a mistake or an attack.
_ZIP_MAX_FILES = 5_000_000
_ZIP_MAX_TOTAL_BYTES = 1 << 40
_ZIP_MAX_FILE_BYTES = 1 << 28

# The folders of a source that has its own splits, in lower case -> the split.
_SPLIT_OF_FOLDER = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

Reader = Callable[[], bytes]


def list_folder(folder: pathlib.Path) -> Listing:
    """Lists all files below the class folders of a folder.

    Hidden files, links to directories and files beside the class folders are ignored
    and named in the notes of the listing.

    Raises:
      ValueError: a class folder holds no file.
    """
    readers: dict[str, Reader] = {}
    ignored: list[str] = []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            ignored.append(entry.name)
            continue
        class_readers, ignored_in_class = _list_class_folder(folder, entry)
        if not class_readers:
            raise ValueError(
                f"Every class folder needs images. Received: {entry}, which holds no "
                "file; add images or remove the folder."
            )
        readers |= class_readers
        ignored += ignored_in_class
    listing = _label_by_folder(readers)
    if not ignored:
        return listing
    names = ", ".join(map(_to_utf8, sorted(ignored)))
    note = f"passed over, hidden, linked or beside the class folders: {names}"
    return dataclasses.replace(listing, notes=(*listing.notes, note))


def _list_class_folder(
    folder: pathlib.Path, class_folder: pathlib.Path
) -> tuple[dict[str, Reader], list[str]]:
    """Returns relative name -> reader for one class folder, and the ignored names."""
    readers: dict[str, Reader] = {}
    ignored = []
    # os.walk does not follow links to directories: they could form a loop, or lead to
    # files that the user does not expect.
    for directory, subdirectories, names in os.walk(class_folder):
        relative = pathlib.Path(directory).relative_to(folder).as_posix()
        ignored += [
            f"{relative}/{name}"
            for name in (*subdirectories, *names)
            if name.startswith(".")
            or (name in subdirectories and os.path.islink(f"{directory}/{name}"))
        ]
        subdirectories[:] = [d for d in subdirectories if not d.startswith(".")]
        for name in (n for n in names if not n.startswith(".")):
            read = functools.partial(read_file, os.path.join(directory, name))
            readers[_to_utf8(f"{relative}/{name}")] = read
    return readers, ignored


def _to_utf8(name: str) -> str:
    """Returns a file name as valid text, even if it is not UTF-8 on the disk."""
    return os.fsencode(name).decode("utf-8", "replace")


def list_zip(path: pathlib.Path) -> Listing:
    """Lists the files of a .zip archive, which are read in place and never extracted.

    So no name in an archive can make a file appear outside a directory.

    Raises:
      ValueError: the archive is too large, has a password or holds unsafe names.
    """
    members = [m for m in _open_zip(str(path)).infolist() if not m.is_dir()]
    total_bytes = sum(member.file_size for member in members)
    if len(members) > _ZIP_MAX_FILES or total_bytes > _ZIP_MAX_TOTAL_BYTES:
        raise ValueError(
            f"An archive must not hold more than {_ZIP_MAX_FILES} files or "
            f"{_ZIP_MAX_TOTAL_BYTES} bytes. Received: --source={path} with "
            f"{len(members)} files and {total_bytes} bytes."
        )
    for member in members:
        parts = pathlib.PurePosixPath(member.filename).parts
        if ".." in parts or parts[0] == "/" or member.flag_bits & 1:
            raise ValueError(
                "An archive must hold only relative names and have no password. "
                f"Received: --source={path} with the member {member.filename!r}."
            )
    return _label_by_folder(
        {
            member.filename: functools.partial(_read_member, str(path), member.filename)
            for member in members
        }
    )


# Opening an archive reads its whole directory, so each process does it only once.
_open_zip = functools.cache(zipfile.ZipFile)


def _read_member(path: str, name: str) -> bytes:
    archive = _open_zip(path)
    if archive.getinfo(name).file_size > _ZIP_MAX_FILE_BYTES:
        raise ValueError(f"more than {_ZIP_MAX_FILE_BYTES} bytes")
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged in the archive: {error}") from error


def _label_by_folder(readers: Mapping[str, Reader]) -> Listing:
    """Returns the images of a relative name -> reader; the first folder is the label.

    A folder that holds everything else is removed from the names. Folders that are
    named as splits, with class folders inside, are the splits of the source. A folder
    that only repeats the class folders, as in Kaggle's flowers archive, is a second
    copy: only those of its files that differ from the first copy are listed.
    """
    readers = _remove_outer_folders(
        {
            name: read
            for name, read in readers.items()
            if not any(p.startswith((".", "__MACOSX")) for p in name.split("/"))
        }
    )
    if _is_layout_of_splits(readers):
        return _label_in_splits(readers)
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
    notes = tuple(
        f"{first}/ repeats the class folders: {count} files are there already"
        for first, count in sorted(repeated.items())
    )
    return Listing(images, notes)


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
