"""Writes compare.csv: every photograph that two runs classify differently."""

import csv
import pathlib
from collections.abc import Sequence

from pipeline.system.texts import escape_controls, escape_formula
from trainer.comparison.comparison import Comparison

COLUMNS = (
    *("first_run", "second_run", "change", "name", "label"),
    *("first_predicted", "first_confidence", "second_predicted", "second_confidence"),
)


def write_changes(path: pathlib.Path, comparisons: Sequence[Comparison]) -> None:
    """Writes one row with the columns COLUMNS for each change."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for comparison in comparisons:
            writer.writerows(_make_rows(comparison))


def _make_rows(comparison: Comparison) -> list[list[str]]:
    first, second = comparison.first, comparison.second
    rows = []
    for change in comparison.changes:
        texts = [str(first.path), str(second.path), change.kind]
        texts += [first.names[change.row], first.classes[first.labels[change.row]]]
        for run in (first, second):
            predicted = run.predicted[change.row]
            confidence = run.probabilities[change.row, predicted]
            texts += [run.classes[predicted], f"{confidence:.6g}"]
        rows.append([escape_formula(escape_controls(text)) for text in texts])
    return rows
