"""Writes audit.csv: one line for each image of each finding."""

import csv
import os
import pathlib
from collections.abc import Sequence

from pipeline.audit.findings import Finding
from pipeline.system import files, texts

COLUMNS = ("number", "kind", "name", "detail", "action")


def write_findings(path: pathlib.Path, findings: Sequence[Finding]) -> None:
    """Writes the table; the images of one finding share its number, from 1 on.

    Values are escaped, so that none acts as a formula in a spreadsheet or controls a
    terminal.
    """
    with (
        files.write_aside(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, finding in enumerate(findings, start=1):
            for name in finding.names:
                row = [finding.kind, name, finding.detail, finding.action]
                writer.writerow([number, *map(_escape, row)])


def check_replaceable(path: pathlib.Path) -> None:
    """Checks that a file does not exist, or is an audit.csv of an earlier audit.

    Raises:
      ValueError: it is another file.
    """
    if not os.path.lexists(path):
        return
    header = ",".join(COLUMNS).encode()
    is_ours = False
    if path.is_file():
        with open(path, "rb") as file:
            is_ours = file.read(len(header)) == header
    if not is_ours:
        raise ValueError(
            f"The report writes audit.csv. Received: {path}, which exists and is no "
            "report of an earlier audit. Choose another directory with --out."
        )


def _escape(value: str) -> str:
    return texts.escape_formula(texts.escape_controls(value))
