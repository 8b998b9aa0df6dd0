"""Renders compare.html, a page that opens without a network."""

import dataclasses
import pathlib
import warnings
from collections.abc import Collection, Mapping, Sequence

from PIL import Image

from pipeline.inspection.thumbnail import make_thumbnail
from pipeline.stored_examples import read_examples
from pipeline.system import templates
from pipeline.system.texts import escape_controls
from trainer.comparison import alignment, wording
from trainer.comparison.comparison import (
    BROKEN,
    MENDED,
    STILL_WRONG,
    Change,
    ClassDifference,
    Comparison,
)
from trainer.comparison.figures import Estimate
from trainer.comparison.run_results import RunResults

# The first lines of the page hold this text, so that the next comparison recognises it.
MARK = "written by trainer.compare"

_TEMPLATES = pathlib.Path(__file__).parent / "templates"
_THUMBNAIL_PX = 160
_MAX_PHOTOGRAPHS = 60
_MIN_PHOTOGRAPHS_PER_COMPARISON = 12
_MAX_CLASSES = 50


@dataclasses.dataclass(frozen=True)
class _Photograph:
    """A changed photograph as the page shows it; the texts are printable.

    answers: for both runs, letter, predicted class, confidence and "right" or "wrong".
    thumbnail: JPEG in base64; None if the photograph cannot be read.
    """

    name: str
    label: str
    answers: list[tuple[str, str, float, str]]
    thumbnail: str | None


def render_page(
    runs: Sequence[RunResults],
    figures: Sequence[Mapping[str, Estimate]],
    comparisons: Sequence[Comparison],
    *,
    csv_name: str,
) -> str:
    """Returns the HTML of the page; reads the photographs that it shows.

    Args:
      runs: in one order, see alignment.align_runs.
      figures: those of each run, see figures.run_figures.
      comparisons: of each other run with the first.
      csv_name: name of the file that holds every change.
    """
    shown = _select_changes(comparisons)
    rows = {change.row for changes in shown.values() for change in changes}
    thumbnails = _make_thumbnails(runs, rows)
    return templates.render(
        _TEMPLATES,
        "compare.html",
        escape_html=True,
        mark=MARK,
        runs=runs,
        figures=figures,
        comparisons=comparisons,
        photographs={
            key: [
                _describe_photograph(comparisons[key[0]], change, thumbnails)
                for change in changes
            ]
            for key, changes in shown.items()
        },
        classes=[_select_classes(comparison) for comparison in comparisons],
        has_no_photographs=bool(rows) and not thumbnails,
        is_content_checked=alignment.were_checked_by_content(runs),
        thumbnail_px=_THUMBNAIL_PX,
        csv_name=csv_name,
        wording=wording,
        escape_controls=escape_controls,
        kinds=(BROKEN, MENDED, STILL_WRONG),
    )


def _select_changes(
    comparisons: Sequence[Comparison],
) -> dict[tuple[int, str], list[Change]]:
    """Returns (index of the comparison, kind) -> the changes that the page shows.

    No kind shows more than a common number, chosen so that the page keeps its limit.
    """
    changes = {
        (index, kind): comparison.changes_of(kind)
        for index, comparison in enumerate(comparisons)
        for kind in (BROKEN, MENDED, STILL_WRONG)
    }
    limit = max(_MAX_PHOTOGRAPHS, _MIN_PHOTOGRAPHS_PER_COMPARISON * len(comparisons))
    per_kind = next(
        number
        for number in range(limit, 0, -1)
        if sum(min(number, len(group)) for group in changes.values()) <= limit
    )
    return {key: group[:per_kind] for key, group in changes.items()}


def _describe_photograph(
    comparison: Comparison, change: Change, thumbnails: Mapping[int, str]
) -> _Photograph:
    first, row = comparison.first, change.row
    answers = []
    for run in (first, comparison.second):
        predicted = run.predicted[row]
        answers.append(
            (
                run.letter,
                escape_controls(run.classes[predicted]),
                float(run.probabilities[row, predicted]),
                "right" if run.is_right[row] else "wrong",
            )
        )
    return _Photograph(
        name=escape_controls(first.names[row]),
        label=escape_controls(first.classes[first.labels[row]]),
        answers=answers,
        thumbnail=thumbnails.get(row),
    )


def _select_classes(comparison: Comparison) -> list[ClassDifference]:
    """Returns all classes, or those with the largest differences, in their order."""
    largest = sorted(
        comparison.classes, key=lambda c: abs(c.difference.value), reverse=True
    )[:_MAX_CLASSES]
    return [c for c in comparison.classes if c in largest]


def _make_thumbnails(
    runs: Sequence[RunResults], rows: Collection[int]
) -> dict[int, str]:
    """Returns row -> JPEG in base64 for the photographs that can be read.

    The photographs come from the first run whose prepared data are still there.
    """
    for run in runs:
        data_dir = alignment.find_data_dir(run)
        if data_dir is None:
            continue
        row_of_position = {int(run.positions[row]): row for row in rows}
        try:
            examples = read_examples(data_dir, "test", row_of_position)
        except (OSError, ValueError):
            continue
        thumbnails = {}
        for position, example in examples.items():
            row = row_of_position[position]
            thumbnail = _try_thumbnail(example.image_bytes)
            if example.name == run.names[row] and thumbnail:
                thumbnails[row] = thumbnail
        return thumbnails
    return {}


def _try_thumbnail(image_bytes: bytes) -> str | None:
    """Returns the thumbnail, or None if Pillow cannot decode the image."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large sizes and odd metadata.
            warnings.simplefilter("ignore")
            return make_thumbnail(image_bytes, _THUMBNAIL_PX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
