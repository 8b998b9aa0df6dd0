"""Finds the files that a table names otherwise than this machine does."""

import collections
import os
import pathlib
import urllib.parse
from collections.abc import Sequence

from pipeline.sources import passed_over
from pipeline.sources.walk import name_all, walk_folder


def locate(
    folder: pathlib.Path, names: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Returns the name of each file relative to the folder, and a note on found files.

    A name that exists is returned as it is. ISIC_0027419 is found as
    part_1/ISIC_0027419.jpg, and 7.jpg as train_images/7.jpg, if no other file below the
    folder has this name. So are Daisy\\7.JPG and C:\\photos\\daisy\\7.jpg, of another
    machine, as daisy/7.jpg. A name that is not found, or is found twice, is returned as
    it is.
    """
    names = [_to_path(name, folder) for name in names]
    absent = [name for name in names if not os.path.exists(folder / name)]
    if not absent:
        return list(names), ()
    by_end: dict[str, list[str]] = collections.defaultdict(list)
    wanted = {_last_part(name) for name in absent}
    for path in _walk(folder):
        last_part = _last_part(path)
        for end in {last_part, pathlib.PurePosixPath(last_part).stem}:
            if end in wanted:
                by_end[end].append(path)
    found = {}
    for name in absent:
        candidates = _find_meant(name, by_end[_last_part(name)])
        if len(candidates) == 1:
            found[name] = candidates[0]
    if not found:
        return list(names), ()
    example = next(iter(found))
    note = (
        f"found below the folder of the table: {len(found)} files, for example "
        f"{example} as {found[example]}"
    )
    return [found.get(name, name) for name in names], (note,)


def _to_path(name: str, folder: pathlib.Path) -> str:
    """Returns a name with "/" between folders, and without file://."""
    if name.startswith("file://"):
        return urllib.parse.unquote(name.removeprefix("file://"))
    if "\\" in name and not os.path.exists(folder / name):
        return name.replace("\\", "/")
    return name


def _last_part(name: str) -> str:
    return name.rpartition("/")[2].casefold()


def _find_meant(name: str, paths: Sequence[str]) -> list[str]:
    """Returns the paths that a name can mean.

    A path ends with the name, or else the name ends with the path.
    """
    end = f"/{name.casefold()}"
    starts = [(f"/{path.casefold()}", path) for path in paths]
    found = [
        path
        for start, path in starts
        if start.endswith(end) or start.rpartition(".")[0].endswith(end)
    ]
    if found:
        return found
    inside = [path for start, path in starts if end.endswith(start)]
    return [path for path in inside if len(path) == max(map(len, inside))]


def _walk(folder: pathlib.Path) -> list[str]:
    """Returns the relative names of the possible photographs below a folder."""
    with os.scandir(folder) as entries:
        beside = [
            entry.name
            for entry in entries
            if entry.is_file() and passed_over.find_kind(entry.name) is None
        ]
    return [*name_all(sorted(beside)), *walk_folder(folder).paths]
