"""A source string -> a list of images, each with a name, a label and a reader."""

import collections
import dataclasses
import functools
import os
import pathlib
import zipfile
from collections.abc import Callable

from pipeline.sources.images import Listing, SourceImage, read_file

# An archive above these is taken for a mistake or an attack.
_ZIP_MAX_FILES = 5_000_000
_ZIP_MAX_TOTAL_BYTES = 1 << 40
_ZIP_MAX_FILE_BYTES = 1 << 28


def list_folder(folder: pathlib.Path) -> Listing:
    readers, empty, passed_over = {}, [], []
    # Links to directories are not followed below the class folders: no loop, no file
    # from elsewhere by surprise.
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            passed_over.append(entry.name)
            continue
        before = len(readers)
        for directory, subdirectories, names in os.walk(entry):
            below = pathlib.Path(directory).relative_to(folder).as_posix()
            passed_over += [
                f"{below}/{name}"
                for name in (*subdirectories, *names)
                if name.startswith(".")
                or (name in subdirectories and os.path.islink(f"{directory}/{name}"))
            ]
            subdirectories[:] = [d for d in subdirectories if not d.startswith(".")]
            for name in (n for n in names if not n.startswith(".")):
                read = functools.partial(read_file, os.path.join(directory, name))
                readers[_to_utf8(f"{below}/{name}")] = read
        if len(readers) == before:
            empty.append(entry)
    if empty:
        raise ValueError(
            f"Every class folder needs images. Received: {empty[0]}, which holds no "
            "file; add images or remove the folder."
        )
    listing = _label_by_folder(readers)
    if not passed_over:
        return listing
    named = ", ".join(map(_to_utf8, sorted(passed_over)))
    note = f"passed over, hidden, linked or beside the class folders: {named}"
    return dataclasses.replace(listing, notes=(*listing.notes, note))


def _to_utf8(name: str) -> str:
    """A name that is not UTF-8 on disk, as text that can be stored."""
    return os.fsencode(name).decode("utf-8", "replace")


def list_zip(path: pathlib.Path) -> Listing:
    """Members are read in place, never extracted: no name can leave a directory."""
    members = [m for m in _open_zip(str(path)).infolist() if not m.is_dir()]
    total_bytes = sum(member.file_size for member in members)
    if len(members) > _ZIP_MAX_FILES or total_bytes > _ZIP_MAX_TOTAL_BYTES:
        raise ValueError(
            f"An archive may hold {_ZIP_MAX_FILES} files and {_ZIP_MAX_TOTAL_BYTES} "
            f"bytes. Received: --source={path} with {len(members)} files and "
            f"{total_bytes} bytes."
        )
    for member in members:
        parts = pathlib.PurePosixPath(member.filename).parts
        if ".." in parts or parts[0] == "/" or member.flag_bits & 1:
            raise ValueError(
                "An archive holds relative names and no password. Received: "
                f"--source={path} with the member {member.filename!r}."
            )
    return _label_by_folder(
        {
            member.filename: functools.partial(_read_member, str(path), member.filename)
            for member in members
        }
    )


# Opening reads the whole directory of an archive, so it is done once a process.
_open_zip = functools.cache(zipfile.ZipFile)


def _read_member(path: str, name: str) -> bytes:
    archive = _open_zip(path)
    if archive.getinfo(name).file_size > _ZIP_MAX_FILE_BYTES:
        raise ValueError(f"more than {_ZIP_MAX_FILE_BYTES} bytes")
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged in the archive: {error}") from error


def _label_by_folder(readers: dict[str, Callable[[], bytes]]) -> Listing:
    """Takes relative name -> reader; the label is the first folder of the name.

    Folders that hold everything are passed over. A folder that only repeats the class
    folders, as in Kaggle's flowers archive, is a second copy: of its files those that
    differ from the first copy count.
    """
    readers = {
        name: read
        for name, read in readers.items()
        if not any(p.startswith((".", "__MACOSX")) for p in name.split("/"))
    }
    while len({name.split("/")[0] for name in readers}) == 1 and all(
        name.count("/") > 1 for name in readers
    ):
        readers = {name.partition("/")[2]: read for name, read in readers.items()}
    readers = {name: read for name, read in readers.items() if "/" in name}
    below = collections.defaultdict(set)
    for name in readers:
        first, _, rest = name.partition("/")
        below[first].add(rest.partition("/")[0] if "/" in rest else "")
    repeats = {
        first
        for first, inner in below.items()
        if inner and inner <= set(below) - {first}
    }
    images, repeated = [], collections.Counter()
    for name, read in readers.items():
        first, _, rest = name.partition("/")
        if first not in repeats:
            images.append(SourceImage(name, first, read))
        elif rest in readers and _same_bytes(read, readers[rest]):
            repeated[first] += 1
        else:
            images.append(SourceImage(name, rest.partition("/")[0], read))
    return Listing(
        images,
        tuple(
            f"{first}/ repeats the class folders: {count} files are there already"
            for first, count in sorted(repeated.items())
        ),
    )


def _same_bytes(left: Callable[[], bytes], right: Callable[[], bytes]) -> bool:
    try:
        return left() == right()
    except (OSError, ValueError):
        return False
