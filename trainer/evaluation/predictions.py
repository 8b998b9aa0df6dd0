"""Writes and reads test_predictions.csv: what a run predicts for each test image."""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from pipeline.system.texts import escape_formula, unescape_formula

_COLUMNS = ("name", "label", "predicted")
# Probabilities are written with nine digits, so their sum differs a little from 1.
_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions of a run for N test images, in stored order.

    names: relative names in the source; each occurs once.
    labels, predicted: int [N], indices into the classes of the run.
    probabilities: float64 [N, K]; rows add up to 1.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray


def write_predictions(
    path: pathlib.Path,
    names: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
) -> None:
    """Writes one row for each image: name, label, predicted class, probabilities.

    A name that a spreadsheet would take for a formula gets an apostrophe, which
    read_predictions removes.

    names: of the N images.
    labels: int [N]; probabilities: float [N, K], range [0, 1].
    classes: the K names, in the order of the labels.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        shown = [escape_formula(name) for name in classes]
        writer.writerow([*_COLUMNS, *shown])
        for name, label, row in zip(names, labels, probabilities, strict=True):
            formatted = [f"{probability:.9g}" for probability in row]
            words = [escape_formula(name), shown[label], shown[row.argmax()]]
            writer.writerow([*words, *formatted])


def read_predictions(path: pathlib.Path, classes: Sequence[str]) -> Predictions:
    """Reads what write_predictions wrote; columns after the classes are ignored.

    classes: those of the run, in the order of the labels.

    Raises:
      ValueError: the file cannot be read, or a line is damaged; the message names it.
    """
    header = [*_COLUMNS, *classes]
    rows = _read_rows(path)
    if not rows or rows[0][1][: len(header)] != header:
        received = ",".join(rows[0][1]) if rows else ""
        raise ValueError(
            f"The first line of {str(path)!r} must be {','.join(header)[:200]!r}. "
            f"Received: {received[:200]!r}; restore the file, or train again."
        )
    label_of_class = {name: label for label, name in enumerate(classes)}
    parsed = [
        _parse_row(path, line, row, label_of_class, columns=len(rows[0][1]))
        for line, row in rows[1:]
    ]
    line_of_name: dict[str, int] = {}
    for (line, _), (name, *_) in zip(rows[1:], parsed, strict=True):
        if name in line_of_name:
            raise _damaged(path, line, f"{name!r} is also in line {line_of_name[name]}")
        line_of_name[name] = line
    return Predictions(
        names=tuple(name for name, *_ in parsed),
        labels=np.array([label for _, label, _, _ in parsed], int),
        predicted=np.array([predicted for _, _, predicted, _ in parsed], int),
        probabilities=np.array([row for *_, row in parsed], float).reshape(
            len(parsed), len(classes)
        ),
    )


def _read_rows(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Returns each row with the number of its last line."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            return [
                (reader.line_num, [unescape_formula(value) for value in row])
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read: {error}. Restore the file, or train again."
        ) from error


def _parse_row(
    path: pathlib.Path,
    line: int,
    row: Sequence[str],
    label_of_class: dict[str, int],
    *,
    columns: int,
) -> tuple[str, int, int, list[float]]:
    """Returns name, label, predicted label and probabilities of one row."""
    if len(row) != columns:
        raise _damaged(path, line, f"{len(row)} values instead of {columns}")
    name, label, predicted, *values = row
    for value in (label, predicted):
        if value not in label_of_class:
            raise _damaged(path, line, f"{value!r} is no class of the run")
    try:
        probabilities = [float(value) for value in values[: len(label_of_class)]]
    except ValueError as error:
        raise _damaged(path, line, str(error)) from error
    total = sum(probabilities)
    # A comparison with NaN is false.
    if not (abs(total - 1) < _TOLERANCE and min(probabilities) >= 0):
        raise _damaged(path, line, f"the probabilities add up to {total:g}")
    predicted_label = label_of_class[predicted]
    if probabilities[predicted_label] < max(probabilities) - _TOLERANCE:
        raise _damaged(path, line, f"{predicted!r} is not the likeliest class")
    return name, label_of_class[label], predicted_label, probabilities


def _damaged(path: pathlib.Path, line: int, problem: str) -> ValueError:
    return ValueError(
        f"Line {line} of {str(path)!r} is damaged. Received: {problem}; "
        "restore the file, or train again."
    )
