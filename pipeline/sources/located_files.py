"""Finds the files that a table names without their folder or suffix."""

import collections
import os
import pathlib
from collections.abc import Sequence

from pipeline.sources import passed_over
from pipeline.sources.walk import name_all, walk_folder


def locate(
    folder: pathlib.Path, names: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Returns the name of each file relative to the folder, and a note on found files.

    For example, ISIC_0027419 is found as part_1/ISIC_0027419.jpg, and 7.jpg as
    train_images/7.jpg. A name is returned as it is if it exists, if it is not found, or
    if two files below the folder have it.
    """
    absent = [name for name in names if not os.path.exists(folder / name)]
    if not absent:
        return list(names), ()
    by_end: dict[str, list[str]] = collections.defaultdict(list)
    wanted = {name.rpartition("/")[2] for name in absent}
    for path in _walk(folder):
        last_part = path.rpartition("/")[2]
        for end in {last_part, pathlib.PurePosixPath(last_part).stem}:
            if end in wanted:
                by_end[end].append(path)
    found = {}
    for name in absent:
        paths = [
            path
            for path in by_end[name.rpartition("/")[2]]
            if f"/{path}".endswith(f"/{name}")
            or f"/{path}".rpartition(".")[0].endswith(f"/{name}")
        ]
        if len(paths) == 1:
            found[name] = paths[0]
    if not found:
        return list(names), ()
    example = next(iter(found))
    note = (
        f"found below the folder of the table: {len(found)} files, for example "
        f"{example} as {found[example]}"
    )
    return [found.get(name, name) for name in names], (note,)


def _walk(folder: pathlib.Path) -> list[str]:
    """Returns the relative names of the possible photographs below a folder."""
    with os.scandir(folder) as entries:
        beside = [
            entry.name
            for entry in entries
            if entry.is_file() and passed_over.find_kind(entry.name) is None
        ]
    return [*name_all(sorted(beside)), *walk_folder(folder).paths]
