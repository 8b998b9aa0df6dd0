"""Reads tables of texts: CSV in its usual forms, JSON lines and JSON lists."""

import codecs
import csv
import dataclasses
import io
import json
import pathlib

from pipeline.system import regular_file

_DELIMITERS = ",;\t|"
# Zip archives (.xlsx, .ods) and the older format of Excel.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of a file.

    columns: the names of the columns, in their order.
    rows: for each row, the number of its line in the file (in a JSON list, its place in
      the list) and column -> value. A value has no blanks at its ends.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]


def read_table(path: pathlib.Path) -> Table:
    """Reads a CSV file, a file of JSON lines, or a JSON list of objects.

    A file is JSON if it begins with { or [. In CSV, the first line names the columns.
    Values are separated by commas, semicolons, tabs or bars, whichever gives the first
    line the most columns. The file is UTF-8, or UTF-16 with a byte order mark.

    Raises:
      ValueError: the file cannot be read, or is not such a table.
    """
    try:
        content = regular_file.read_regular_file(str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"The table cannot be read: {reason}. Received: {path}"
        ) from error
    text = decode(content, path)
    try:
        if text.lstrip()[:1] in ("{", "["):
            return _read_json(text)
        return _read_csv(text)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"The table cannot be read: {error}. Received: {path}") from (
            error
        )


def decode(content: bytes, path: pathlib.Path) -> str:
    """Decodes a text file: UTF-8, or UTF-16 with a byte order mark.

    path: its path, for the error.

    Raises:
      ValueError: it has another encoding.
    """
    if content.startswith(_WORKBOOKS):
        raise ValueError(
            f"The table is the workbook of a spreadsheet. Received: {path}. Save it as "
            "CSV (UTF-8)."
        )
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in content:
        raise ValueError(
            "The table holds null characters; UTF-16 needs a byte order mark. "
            f"Received: {path}. Save it as UTF-8."
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"The table is not {encoding.removesuffix('-sig').upper()}: byte "
            f"0x{content[error.start]:02x} in line {line}. Received: {path}. Save it "
            "as UTF-8, or convert it if you know its encoding, for example with "
            f"iconv -f windows-1252 -t utf-8 {path.name} > new.csv"
        ) from error


def _read_csv(text: str) -> Table:
    first_line = text.lstrip("\r\n").split("\n", 1)[0].rstrip("\r")
    delimiter = max(
        _DELIMITERS, key=lambda d: len(next(csv.reader([first_line], delimiter=d), []))
    )
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True
    )
    columns: tuple[str, ...] = ()
    rows = []
    for values in reader:
        stripped = [value.strip() for value in values]
        if not any(stripped):
            continue
        if not columns:
            columns = tuple(stripped)
            while columns and not columns[-1]:
                columns = columns[:-1]
            if len(set(columns)) < len(columns):
                raise ValueError(f"two columns have one name: {', '.join(columns)}")
            continue
        # Spreadsheets write empty values to the right of a table.
        while len(stripped) > len(columns) and not stripped[-1]:
            stripped.pop()
        if len(stripped) > len(columns):
            raise ValueError(
                f"line {reader.line_num} has {len(stripped)} values, the first line "
                f"{len(columns)}; quote values that hold {delimiter!r}"
            )
        missing = [""] * (len(columns) - len(stripped))
        rows.append(
            (reader.line_num, dict(zip(columns, [*stripped, *missing], strict=True)))
        )
    return Table(columns, rows)


def _read_json(text: str) -> Table:
    """Reads one JSON object in each line, or one list of objects."""
    if text.lstrip().startswith("["):
        numbered = list(enumerate(json.loads(text), start=1))
    else:
        numbered = [
            (number, json.loads(line))
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip()
        ]
    columns: dict[str, None] = {}
    rows = []
    for number, value in numbered:
        if not isinstance(value, dict):
            raise ValueError(f"line {number} is no JSON object")
        row = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in value.items()
            if value is not None
        }
        columns.update(dict.fromkeys(row))
        rows.append((number, row))
    return Table(
        tuple(columns),
        [
            (number, {c: row.get(c, "").strip() for c in columns})
            for number, row in rows
        ],
    )
