"""Renders drift.html, a page that opens without a network."""

import base64
import io
import pathlib

from PIL import Image

from export.drift_check import sentences
from export.drift_check.comparison import DriftReport
from export.remote import image_files
from pipeline.inspection.reencoding import StoredForm
from pipeline.system import templates

_TEMPLATES_DIR = pathlib.Path(__file__).parent / "templates"
_THUMBNAIL_PX = 200


def render_page(report: DriftReport, paths: dict[str, str], *, limit: float) -> str:
    """Returns the HTML of the page; reads the photographs that it shows.

    Args:
      paths: name in the report -> path of the file.
      limit: drift is found if p is below it.
    """
    return templates.render(
        _TEMPLATES_DIR,
        "drift.html",
        escape_html=True,
        report=report,
        headline=sentences.headline(report, limit),
        changes=sentences.list_changes(report, limit),
        notes=sentences.describe_counts(report),
        test_texts=sentences.TESTS,
        describe_p=sentences.describe_p,
        means=[
            shift
            for shift in (
                report["confidence"],
                report["unknown_score"],
                *report["measures"],
            )
            if shift is not None
        ],
        thumbnails=[_make_thumbnail(paths[row["name"]]) for row in report["unusual"]],
    )


def _make_thumbnail(path: str) -> str | None:
    """Returns a small JPEG in base64, or None if the file cannot be read any more."""
    try:
        stored = image_files.read_as_stored(path, StoredForm)
        with Image.open(io.BytesIO(stored)) as image:
            image.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
            small = image.convert("RGB")
    # For a damaged file Pillow raises exceptions of any type.
    except Exception:
        return None
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
