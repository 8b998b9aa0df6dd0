"""Finds the files of a folder that may be photographs."""

import collections
import dataclasses
import os
import pathlib
import stat
from collections.abc import Sequence

from pipeline.sources import passed_over


@dataclasses.dataclass(frozen=True)
class Walk:
    """What lies in a folder of class folders.

    paths: relative name -> path of each regular file in a class folder, in the order of
      the names.
    class_folders: the names of the class folders, also of those without a file.
    passed_over: kind -> relative names of what is passed over.
    """

    paths: dict[str, str]
    class_folders: list[str]
    passed_over: dict[str, list[str]]


def walk_folder(folder: pathlib.Path) -> Walk:
    """Finds the regular files in the folders of a folder, at any depth.

    Links to files are followed. Links to folders are followed only where the class
    folders are, and not if they lead back to a folder around them: they could form a
    circle, or lead to files that the user does not expect. The files are not opened.

    Raises:
      OSError: the folder itself cannot be read.
    """
    paths: dict[str, str] = {}
    names_of_kind: dict[str, list[str]] = collections.defaultdict(list)
    waiting = []
    for entry, name in _scan(folder):
        kind, is_folder = _judge(entry, follow=not _leads_back(entry, folder))
        if kind is None and not is_folder:
            kind = passed_over.BESIDE_CLASSES
        if kind is None:
            waiting.append((entry.path, name))
        else:
            names_of_kind[kind].append(name)
    class_folders = [name for _, name in waiting]
    waiting.reverse()
    while waiting:
        path, folder_name = waiting.pop()
        try:
            entries = _scan(path)
        except OSError:
            names_of_kind[passed_over.UNREADABLE_FOLDERS].append(folder_name)
            continue
        folders = []
        for entry, name in entries:
            inner_name = f"{folder_name}/{name}"
            kind, is_folder = _judge(entry, follow=False)
            if kind is not None:
                names_of_kind[kind].append(inner_name)
            elif is_folder:
                folders.append((entry.path, inner_name))
            else:
                paths[inner_name] = entry.path
        waiting += reversed(folders)
    return Walk(paths, class_folders, dict(names_of_kind))


def _scan(folder: str | pathlib.Path) -> list[tuple[os.DirEntry[str], str]]:
    """Returns the entries of a folder by name, each with a name that is valid text."""
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    return list(zip(entries, name_all([e.name for e in entries]), strict=True))


def _judge(entry: os.DirEntry[str], *, follow: bool) -> tuple[str | None, bool]:
    """Returns the kind of an entry that is passed over, and whether it is a folder.

    The kind is None for an entry that is used.

    follow: use links to folders.
    """
    is_folder = is_file = False
    if entry.is_symlink():
        try:
            mode = os.stat(entry.path).st_mode
        except OSError:  # Also a link to itself.
            return passed_over.BROKEN_LINKS, False
        is_folder, is_file = stat.S_ISDIR(mode), stat.S_ISREG(mode)
        if is_folder and not follow:
            return passed_over.LINKED_FOLDERS, True
    else:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    if is_folder:
        return passed_over.find_kind_of_folder(entry.name), True
    kind = passed_over.find_kind(entry.name)
    return kind or (None if is_file else passed_over.NOT_REGULAR), False


def _leads_back(entry: os.DirEntry[str], folder: pathlib.Path) -> bool:
    """Tells whether an entry is a link to the folder it is in, or to one around it."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return os.path.commonpath([target, os.path.realpath(folder)]) == target


def name_all(names: Sequence[str]) -> list[str]:
    """Returns for each file name of a folder a distinct name that is valid text.

    A name in UTF-8 stays as it is. In any other name, each byte that is not UTF-8 is
    written as \\xff. If a file has that name already, underscores are put before it.

    names: as os.scandir returns them, in an order that is the same every time.
    """
    taken = {name for name in names if _is_text(name)}
    valid_names = []
    for name in names:
        valid_name = name
        if not _is_text(name):
            valid_name = os.fsencode(name).decode("utf-8", "backslashreplace")
            while valid_name in taken:
                valid_name = f"_{valid_name}"
            taken.add(valid_name)
        valid_names.append(valid_name)
    return valid_names


def _is_text(name: str) -> bool:
    """Tells whether a name is UTF-8; os.scandir turns other bytes into surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
