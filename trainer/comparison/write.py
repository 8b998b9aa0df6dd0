"""Compares runs and writes compare.html and compare.csv."""

import dataclasses
import pathlib
from collections.abc import Sequence

from pipeline.system import files
from trainer.comparison import changes_csv, compare_page
from trainer.comparison.alignment import align_runs
from trainer.comparison.comparison import Comparison, compare_runs
from trainer.comparison.figures import Estimate, run_figures
from trainer.comparison.run_results import RunResults, read_runs

_MARK_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a comparison found and wrote.

    runs: the first one decides the order of the photographs of all.
    figures: of each run; comparisons: of each other run with the first.
    page, table: paths of the two files.
    """

    runs: list[RunResults]
    figures: list[dict[str, Estimate]]
    comparisons: list[Comparison]
    page: pathlib.Path
    table: pathlib.Path


def compare(paths: Sequence[str], out: str) -> Outcome:
    """Compares the runs with the first one, and writes the page and the table.

    Args:
      paths: two or more run directories.
      out: a directory, which gets compare.html and compare.csv, or a file NAME.html,
        which gets NAME.csv beside it.

    Raises:
      ValueError: the runs cannot be compared, or trainer.compare did not write a file
        that it would replace; nothing is written.
      OSError: a file cannot be written.
    """
    page, table = _find_targets(out)
    runs = align_runs(read_runs(paths))
    figures = [run_figures(run) for run in runs]
    comparisons = compare_runs(runs)
    html = compare_page.render_page(runs, figures, comparisons, csv_name=table.name)
    page.parent.mkdir(parents=True, exist_ok=True)
    with files.write_aside(page) as partial_page:
        partial_page.write_text(html, encoding="utf-8")
        with files.write_aside(table) as partial_table:
            changes_csv.write_changes(partial_table, comparisons)
    return Outcome(runs, figures, comparisons, page, table)


def _find_targets(out: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the paths of the page and of the table.

    Raises:
      ValueError: they cannot be written, or trainer.compare did not write them.
    """
    page = pathlib.Path(out)
    if page.suffix.lower() != ".html" or page.is_dir():
        page /= "compare.html"
    table = page.with_suffix(".csv")
    files.check_writable(page.parent, "out")
    for path, mark in (
        (page, compare_page.MARK),
        (table, ",".join(changes_csv.COLUMNS)),
    ):
        if path.exists() and not _holds(path, mark):
            raise ValueError(
                f"{str(path)!r} exists, and trainer.compare did not write it. "
                f"Received: --out={out}; name another --out, or move the file away."
            )
    return page, table


def _holds(path: pathlib.Path, mark: str) -> bool:
    """Returns whether a file has the mark in its first bytes."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return mark.encode() in file.read(_MARK_BYTES)
