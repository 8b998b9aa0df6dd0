"""Finds the names of classes that a table gives as numbers."""

import json
import pathlib
import re
from collections.abc import Sequence

from pipeline.sources import tables
from pipeline.system import regular_file

# Files beside a table that hold the names, in the order in which they are looked for.
_FILES = (
    *("classes.txt", "class_names.txt", "labels.txt", "names.txt", "classes.names"),
    *("classes.json", "class_names.json", "labels.json", "id2label.json"),
    *("label_map.json", "label_num_to_disease_map.json"),
)
# "0 daisy", "0: daisy", "0,daisy".
_NUMBERED = re.compile(r"(\d+)[\s:,;=]+(.*\S)\s*")


def name_classes(
    folder: pathlib.Path, labels: Sequence[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Replaces labels that are numbers by names from a file, and returns a note on it.

    The labels are returned as they are, without a note, if not all are numbers or if
    the folder has no such file.

    folder: the folder of the table.

    Raises:
      ValueError: the file has no name for a number.
    """
    paths = [folder / name for name in _FILES if (folder / name).is_file()]
    if not labels or not paths or not all(label.isdecimal() for label in labels):
        return list(labels), ()
    name_of = _read_names(paths[0])
    missing = sorted({label for label in labels if int(label) not in name_of}, key=int)
    if missing:
        raise ValueError(
            f"The labels are numbers, and {paths[0]} has no name for {missing[0]}. "
            f"Received: {len(name_of)} names. Correct the file, or rename it to keep "
            "the numbers."
        )
    note = f"the labels are numbers; their names are those of {paths[0].name}"
    return [name_of[int(label)] for label in labels], (note,)


def _read_names(path: pathlib.Path) -> dict[int, str]:
    """Returns number -> name of the class; lines without numbers count from 0."""
    text = tables.decode(regular_file.read_regular_file(str(path)), path)
    if path.suffix == ".json":
        return _read_json_names(text, path)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(matches):
        return {int(match[1]): match[2] for match in matches if match}
    return dict(enumerate(lines))


def _read_json_names(text: str, path: pathlib.Path) -> dict[int, str]:
    try:
        value = json.loads(text)
        if isinstance(value, list):
            return {number: str(name) for number, name in enumerate(value)}
        if all(key.isdecimal() for key in value):
            return {int(key): str(name) for key, name in value.items()}
        return {int(number): name for name, number in value.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            "A file of class names must be a JSON list of names, or an object of "
            f"numbers and names. Received: {path}: {error}"
        ) from error
