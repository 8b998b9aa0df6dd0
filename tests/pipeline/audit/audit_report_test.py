import dataclasses

from pipeline.audit import audit_report
from pipeline.audit.decide import Audit
from pipeline.audit.findings import list_findings
from pipeline.inspection.image_report import ImageReport
from pipeline.sources.images import Listing, SourceImage


def _report(name: str, problem: str | None = None, *oddities: str) -> ImageReport:
    image = SourceImage(name, "a", bytes)
    return ImageReport(image, problem, tuple(oddities), width=9, height=9)


AUDIT = Audit(
    readable=[_report(f"a/{n}.jpg") for n in range(9)],
    usable=[_report(f"a/{n}.jpg", None, "grey", "CMYK") for n in range(5)],
    group_of={},
    rejected=[
        *(
            _report(f"a/t{n}.jpg", f"too small: {n} x 3 pixels (limit: 16 a side)")
            for n in range(60)
        ),
        _report("a/no.jpg", "not an image"),
        _report("a/\x1b[2Jno.jpg", "not an image"),
    ],
    copies=[["a/1.jpg", "a/2.jpg", "a/3.jpg"], ["a/4.jpg", "a/5.jpg"]],
    near_duplicates=[[f"a/{n}.jpg" for n in range(9)]],
    conflicts=[["a/1.jpg", "b/1.jpg"]],
)


def test_findings_are_grouped_by_kind_with_a_count_and_three_examples():
    findings = list_findings(AUDIT, conflicts="drop")
    assert audit_report.describe_findings(findings) == [
        "left out, too small: 60 (a/t0.jpg: 0 x 3 pixels, a/t1.jpg: 1 x 3 pixels, "
        "a/t2.jpg: 2 x 3 pixels and 57 more)",
        "left out, not an image: 2 (a/no.jpg, a/\x1b[2Jno.jpg)",
        "under several classes: 1 (a/1.jpg + b/1.jpg)",
        "copies left out: 3 (a/2.jpg: kept a/1.jpg, a/3.jpg: kept a/1.jpg, a/5.jpg: "
        "kept a/4.jpg)",
        "near duplicates, kept in one split: 1 (a/0.jpg + a/1.jpg + a/2.jpg + 6 more)",
        "used, grey: 5 (a/0.jpg, a/1.jpg, a/2.jpg and 2 more)",
        "used, CMYK: 5 (a/0.jpg, a/1.jpg, a/2.jpg and 2 more)",
    ]


def test_what_is_printed_has_no_control_characters(capsys):
    listing = Listing([], ("a note on \x1b]0;title\x07",))
    audit_report.print_report(
        listing, AUDIT, conflicts="drop", full_report="audit.html"
    )
    audit_report.print_counts({"a\x1b[31m": {"train": 1, "validation": 2, "test": 3}})
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"a note on \x1b]0;title\x07" in printed
    assert r"left out, not an image: 2 (a/no.jpg, a/\x1b[2Jno.jpg)" in printed
    assert "all findings: audit.html" in printed
    assert "a\\x1b[31m           1           2           3" in printed


def test_very_many_kinds_are_cut(capsys):
    rejected = [_report(f"{n}", f"reason {n}") for n in range(25)]
    audit = dataclasses.replace(AUDIT, rejected=rejected)
    audit_report.print_report(
        Listing([]), audit, conflicts="drop", full_report="audit.html"
    )
    printed = capsys.readouterr().out
    assert "reason 19" in printed
    assert "reason 20" not in printed
    assert "and 10 more kinds" in printed
