"""Writes audit.html, a page that opens without a network, and audit.csv beside it.

The page is smaller than 10 MB for any number of images: it shows examples of each kind
of finding, and audit.csv has all findings.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

from pipeline.audit import audit_csv
from pipeline.audit.audit_json import AuditJson
from pipeline.audit.decide import Audit
from pipeline.audit.doubts import MEANINGS
from pipeline.audit.findings import Finding, list_findings
from pipeline.inspection.image_report import ImageReport
from pipeline.inspection.opening import is_common
from pipeline.inspection.reencoding import StoredForm
from pipeline.inspection.thumbnail import make_thumbnail
from pipeline.system import files, templates

_TEMPLATES_DIR = pathlib.Path(__file__).parent / "templates"
_MAX_KINDS = 40
_MAX_NAMES_PER_KIND = 300
_MAX_NAMES_PER_FINDING = 12
# A person compares the images of a group, so many groups are shown. Of single images, a
# few show what the kind means.
_MAX_THUMBNAILS_OF_GROUPS = 60
_MAX_THUMBNAILS_OF_SINGLES = 8
_MAX_THUMBNAILS = 300
_MAX_CORRECTIONS = 300
_THUMBNAIL_PX = 140
# The problem of images that are left out but are quick to decode.
_CAN_BE_SHOWN = "too small"


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What the page shows of one kind of finding.

    count: number of all its findings. shown: examples of them.
    with_thumbnails: the names that are shown as small pictures.
    """

    name: str
    meaning: str
    count: int
    shown: list[Finding]
    with_thumbnails: list[str]


def write_page(directory: pathlib.Path, audit_json: AuditJson, audit: Audit) -> None:
    """Writes audit.html and audit.csv; reads the images that are shown as thumbnails.

    audit_json: the content of audit.json for this audit.
    """
    conflicts = str(audit_json["settings"]["conflicts"])
    findings = list_findings(audit, conflicts=conflicts)
    audit_csv.write_findings(directory / "audit.csv", findings)
    page = _render_page(audit_json, audit, findings)
    files.write_text(directory / "audit.html", page)


def _render_page(
    audit_json: AuditJson, audit: Audit, findings: Sequence[Finding]
) -> str:
    by_kind = itertools.groupby(findings, key=lambda finding: finding.kind)
    kinds = [_choose_examples(kind, list(of_kind)) for kind, of_kind in by_kind]
    largest = sorted(kinds, key=lambda kind: -kind.count)[:_MAX_KINDS]
    shown = [kind for kind in kinds if kind in largest]
    return templates.render(
        _TEMPLATES_DIR,
        "audit.html",
        escape_html=True,
        audit=audit_json,
        kinds=shown,
        other_kinds=[kind for kind in kinds if kind not in largest],
        num_findings=len(findings),
        thumbnails=_make_thumbnails(
            audit, shown, background=str(audit_json["settings"]["background"])
        ),
        thumbnail_px=_THUMBNAIL_PX,
        max_names=_MAX_NAMES_PER_FINDING,
        max_corrections=_MAX_CORRECTIONS,
    )


def _choose_examples(name: str, findings: Sequence[Finding]) -> _Kind:
    lengths = [min(len(f.names), _MAX_NAMES_PER_FINDING) for f in findings]
    count = min(len(findings), _MAX_NAMES_PER_KIND * len(findings) // sum(lengths))
    # From all classes: the findings are in the order of the names.
    shown = [findings[at * len(findings) // count] for at in range(count)]
    names = [n for finding in shown for n in finding.names[:_MAX_NAMES_PER_FINDING]]
    meaning = MEANINGS.get(name.removeprefix("used, but "), "")
    has_groups = any(len(finding.names) > 1 for finding in findings)
    limit = _MAX_THUMBNAILS_OF_GROUPS if has_groups else _MAX_THUMBNAILS_OF_SINGLES
    return _Kind(name, meaning, len(findings), shown, names[:limit])


def _make_thumbnails(
    audit: Audit, kinds: Sequence[_Kind], *, background: str
) -> dict[str, str]:
    """Returns name -> JPEG data in base64 of the images that can be shown."""
    names = dict.fromkeys(name for kind in kinds for name in kind.with_thumbnails)
    report_of = {
        report.image.name: report
        for report in (*audit.readable, *audit.rejected)
        if report.image.name in names
        and (report.problem or _CAN_BE_SHOWN).startswith(_CAN_BE_SHOWN)
    }
    chosen = [name for name in names if name in report_of][:_MAX_THUMBNAILS]
    thumbnails = {
        name: _make_thumbnail(report_of[name], background=background) for name in chosen
    }
    return {name: data for name, data in thumbnails.items() if data is not None}


def _make_thumbnail(report: ImageReport, *, background: str) -> str | None:
    form = StoredForm(sample_bits=report.sample_bits or None, background=background)
    try:
        image_bytes = report.image.read()
        # An image that is left out was never decoded; its decoder could hang.
        if report.problem is not None and not is_common(image_bytes):
            return None
        return make_thumbnail(image_bytes, _THUMBNAIL_PX, form)
    except (OSError, ValueError, SyntaxError):
        if report.problem is None:
            raise
        return None
