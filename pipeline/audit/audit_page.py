"""Renders audit.html, a page that opens without a network."""

import base64
import io
import pathlib

from PIL import Image, ImageOps

from pipeline.audit.audit_json import AuditJson
from pipeline.audit.decide import Audit
from pipeline.inspection.image_report import ImageReport
from pipeline.system import templates

_TEMPLATES_DIR = pathlib.Path(__file__).parent / "templates"
_MAX_GROUPS = 200
_MAX_NAMES_PER_GROUP = 12
_THUMBNAIL_PX = 140


def render_page(audit_json: AuditJson, audit: Audit) -> str:
    """Returns the HTML of the page; reads the images that are shown as thumbnails."""
    return templates.render(
        _TEMPLATES_DIR,
        "audit.html",
        escape_html=True,
        audit=audit_json,
        conflicts=audit.conflicts,
        copies=audit.copies,
        near_duplicates=audit.near_duplicates,
        thumbnails=_make_thumbnails(audit),
        thumbnail_px=_THUMBNAIL_PX,
        max_groups=_MAX_GROUPS,
        max_names=_MAX_NAMES_PER_GROUP,
    )


def _make_thumbnails(audit: Audit) -> dict[str, str]:
    """Returns name -> JPEG data in base64 for the images that are shown in a group."""
    shown_names = {
        name
        for groups in (audit.conflicts, audit.copies, audit.near_duplicates)
        for names in groups[:_MAX_GROUPS]
        for name in names[:_MAX_NAMES_PER_GROUP]
    }
    return {
        report.image.name: _make_thumbnail(report)
        for report in audit.readable
        if report.image.name in shown_names
    }


def _make_thumbnail(report: ImageReport) -> str:
    with Image.open(io.BytesIO(report.image.read())) as image:
        image.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
