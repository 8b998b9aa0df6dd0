"""Lists the images that a table names: the source csv:FILE."""

import functools
import pathlib
import re
from collections.abc import Mapping, Sequence

from pipeline.sources import located_files, numbered_classes, tables
from pipeline.sources.images import (
    SPLITS,
    Listing,
    SourceImage,
    find_split,
    read_file,
)
from pipeline.sources.tables import Table
from pipeline.system import texts

COLUMNS = ("path", "label", "split", "group")

# Usual names of the columns, in lower case, which an error proposes for --csv_columns.
# Only file_name is used without that flag, as in metadata.csv and metadata.jsonl of
# Hugging Face.
_USUAL_NAMES = {
    "path": (
        *("file_name", "filename", "file", "filepath", "file_path", "image_path"),
        *("image", "img", "image_name", "image_id", "img_path", "photo", "id", "name"),
    ),
    "label": (
        *("class", "class_name", "classname", "category", "species", "target"),
        *("labels", "label_name", "class_id", "diagnosis", "dx", "breed", "y"),
    ),
    "split": ("subset", "set", "partition", "fold"),
    "group": ("patient", "patient_id", "lesion_id", "subject", "individual"),
}
# Not file://, which names files of this machine.
_ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_YES, _NO = {"1", "1.0", "true"}, {"0", "0.0", "false", ""}


def list_csv(
    path: pathlib.Path, *, columns: Mapping[str, str] | None = None
) -> Listing:
    """Lists the rows of a table with the columns path, label, [split], [group].

    Paths are relative to the folder of the table. A path that does not exist is
    searched below this folder, with any suffix. Instead of a column label, the table
    may have one column for each class, with 1 for the class of the row and 0 for all
    others. Labels that are numbers get their names from a file beside the table; see
    numbered_classes.

    path: the table; see tables.read_table.
    columns: path, label, split or group -> the name of the column in the table.

    Raises:
      ValueError: the file or one of its rows cannot be used.
    """
    table = tables.read_table(path)
    column_of = _find_columns(table, columns or {}, path)
    labels, notes = _read_labels(table, column_of, path)
    names = [row[column_of["path"]] for _, row in table.rows]
    _refuse_addresses(table, names, path)
    located, location_notes = located_files.locate(path.parent, names)
    images: list[SourceImage] = []
    line_of_name: dict[str, int] = {}
    for (line, row), name, label, file in zip(
        table.rows, names, labels, located, strict=True
    ):
        split = _read_optional(row, column_of, "split")
        split = split and (find_split(split) or split)
        if not name or not label or split not in (None, *SPLITS):
            raise ValueError(
                "Each line needs a path, a label and, if the column split is used, "
                "train, validation or test. Received: "
                f"line {line} of {path}: path={name!r}, label={label!r}, "
                f"split={split!r}"
            )
        if file in line_of_name:
            raise ValueError(
                "Each path must be in one line only. Received: "
                f"{name!r} in lines {line_of_name[file]} and {line} of {path}; delete "
                "one of them."
            )
        line_of_name[file] = line
        read = functools.partial(read_file, str(path.parent / file))
        group = _read_optional(row, column_of, "group")
        images.append(SourceImage(file, label, read, split, group))
    return Listing(images, (*notes, *location_notes))


def _read_optional(
    row: Mapping[str, str], column_of: Mapping[str, str], name: str
) -> str | None:
    """Returns the value of split or group; None without the column or the value."""
    return (row[column_of[name]] or None) if name in column_of else None


def _refuse_addresses(table: Table, names: Sequence[str], path: pathlib.Path) -> None:
    for (line, _), name in zip(table.rows, names, strict=True):
        if _ADDRESS.match(name):
            raise ValueError(
                "Photographs must be on this machine. Received: an address in line "
                f"{line} of {path}: {name!r}. Download them, and name the files."
            )


def parse_columns(values: Sequence[str]) -> dict[str, str]:
    """Parses the values of --csv_columns, such as path=filename and label=species.

    Raises:
      ValueError: a value is not such a pair.
    """
    pairs = [value.partition("=") for value in values]
    for name, _, column in pairs:
        if name not in COLUMNS or not column:
            raise ValueError(
                f"--csv_columns must be pairs of {', '.join(COLUMNS)} and the name of "
                "a column, such as path=filename,label=species. Received: "
                f"--csv_columns={','.join(values)}"
            )
    return {name: column for name, _, column in pairs}


def _find_columns(
    table: Table, given: Mapping[str, str], path: pathlib.Path
) -> dict[str, str]:
    """Returns path, label, split, group -> column; label only if there is one."""
    seen = texts.list_some(table.columns, limit=20) or "no rows"
    unknown = sorted(set(given.values()) - set(table.columns))
    if unknown:
        raise ValueError(
            f"The table has no column {unknown[0]!r}, which --csv_columns names. "
            f"Received: --source=csv:{path} with {seen}; name one of these."
        )
    column_of = {name: name for name in COLUMNS if name in table.columns}
    if "path" not in column_of and "file_name" in table.columns:
        column_of["path"] = "file_name"
    column_of |= given
    has_label = "label" in column_of or _find_class_columns(table, column_of)
    if table.rows and "path" in column_of and has_label:
        return column_of
    if any(_looks_like_path(column, path.parent) for column in table.columns):
        raise ValueError(
            "The first line of the table must name its columns. Received: "
            f"--source=csv:{path}, whose first line is {seen}. Write path,label above "
            "it."
        )
    proposal = _propose(table, column_of)
    raise ValueError(
        "The table needs a first line with the columns path,label (and optionally "
        "split,group) and one line per image. Received: "
        f"--source=csv:{path} with {seen if table.rows else 'no rows'}"
        + (f". Try --csv_columns={proposal}" if table.rows and proposal else "")
    )


def _looks_like_path(column: str, folder: pathlib.Path) -> bool:
    return any((folder / name).is_file() for name in (column, column.split(" ")[0]))


def _propose(table: Table, column_of: Mapping[str, str]) -> str:
    """Returns a proposal for --csv_columns, with the column names of the table."""
    in_lower_case = {column.lower(): column for column in table.columns}
    proposed = {}
    for name in ("path", "label"):
        usual = [n for n in (name, *_USUAL_NAMES[name]) if n in in_lower_case]
        column = in_lower_case[usual[0]] if usual else column_of.get(name)
        if name not in column_of or column_of[name] != name:
            proposed[name] = column_of.get(name) or column or f"NAME_OF_{name.upper()}"
    return ",".join(f"{name}={column}" for name, column in proposed.items())


def _find_class_columns(table: Table, column_of: Mapping[str, str]) -> list[str]:
    """Returns the class columns of a table that has one for each class; else []."""
    others = [c for c in table.columns if c not in column_of.values()]
    values = {row[c].lower() for _, row in table.rows for c in others}
    is_one_hot = len(others) > 1 and values <= _YES | _NO and bool(values & _YES)
    return others if is_one_hot else []


def _read_labels(
    table: Table, column_of: Mapping[str, str], path: pathlib.Path
) -> tuple[list[str], tuple[str, ...]]:
    """Returns the label of each row, and notes on how they were found."""
    if "label" in column_of:
        labels = [row[column_of["label"]] for _, row in table.rows]
        return numbered_classes.name_classes(path.parent, labels)
    classes = _find_class_columns(table, column_of)
    labels = []
    for line, row in table.rows:
        chosen = [c for c in classes if row[c].lower() in _YES]
        if len(chosen) != 1:
            raise ValueError(
                "Each line needs the value 1 in the column of exactly one class. "
                f"Received: line {line} of {path} with {', '.join(chosen) or 'none'}"
            )
        labels.append(chosen[0])
    note = f"one column for each class: {texts.list_some(classes)}"
    return labels, (note,)
