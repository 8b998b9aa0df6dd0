"""Renders audit.html, a page that opens without a network."""

import pathlib

from pipeline.audit.audit_json import AuditJson
from pipeline.audit.decide import Audit
from pipeline.inspection.thumbnail import make_thumbnail
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
        report.image.name: make_thumbnail(
            report.image.read(), _THUMBNAIL_PX, sample_bits=report.sample_bits or None
        )
        for report in audit.readable
        if report.image.name in shown_names
    }
