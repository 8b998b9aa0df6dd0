import numpy as np
import pytest

from pipeline.audit import audit_json, findings
from pipeline.audit.decide import decide
from pipeline.inspection.image_report import ImageReport
from pipeline.inspection.quality import Quality
from pipeline.sources.images import SourceImage


def _report(name, bits, *, quality=None, oddities=()):
    """A report whose hash is the hash of a picture with this many bits changed."""
    hash_bits = np.random.default_rng(len(name.partition("_")[2])).random(256) < 0.5
    hash_bits[:bits] ^= True
    return ImageReport(
        SourceImage(name, name.partition("/")[0], bytes),
        None,
        oddities=oddities,
        file_hash=name,
        perceptual_hash=np.packbits(hash_bits).tobytes(),
        quality=quality,
        width=100,
        height=100,
    )


def _audit(*reports, **options):
    return decide(
        reports, hash_pixels=lambda images: {i.name: i.name for i in images}, **options
    )


@pytest.mark.parametrize(
    ("bits", "kind"),
    [
        (32, "under several classes"),
        (33, "near duplicates under several classes"),
        (52, "near duplicates under several classes"),
        (53, None),
    ],
)
def test_pictures_that_are_alike_in_two_classes(bits, kind):
    audit = _audit(_report("a/1", 0), _report("b/1", bits))
    found = findings.list_findings(audit, conflicts="drop")
    assert [(f.kind, f.names) for f in found] == (
        [(kind, ("a/1", "b/1"))] if kind else []
    )
    counts = audit_json.count_findings(audit)
    assert counts["near duplicates under several classes"] == (bits in (33, 52))


def test_near_duplicates_of_one_class_are_only_kept_together():
    audit = _audit(_report("a/1", 0), _report("a/2", 40), _report("b/_9", 0))
    assert [f.kind for f in findings.list_findings(audit, conflicts="drop")] == [
        "near duplicates, kept in one split"
    ]
    assert findings.find_near_duplicates_across_classes(audit) == []


def test_a_conflict_that_is_kept_is_named_once():
    audit = _audit(_report("a/1", 0), _report("b/1", 5), keep_conflicts=True)
    assert findings.find_near_duplicates_across_classes(audit) == []
    found = findings.list_findings(audit, conflicts="keep")
    assert [(f.kind, f.action) for f in found] == [
        ("under several classes", "all copies used"),
        ("near duplicates, kept in one split", "kept in one split"),
    ]


def test_findings_of_one_kind_follow_one_another():
    dark = Quality(0, 9, 1.0)
    audit = _audit(
        _report("a/_1", 0, quality=dark, oddities=("grey", "CMYK")),
        _report("a/_22", 0, quality=dark, oddities=("CMYK",)),
    )
    found = findings.list_findings(audit, conflicts="drop")
    assert [(f.kind, f.names[0], f.detail) for f in found] == [
        ("used, grey", "a/_1", ""),
        ("used, CMYK", "a/_1", ""),
        ("used, CMYK", "a/_22", ""),
        ("used, but dark", "a/_1", "lightest 9 of 255"),
        ("used, but dark", "a/_22", "lightest 9 of 255"),
        ("used, but low contrast", "a/_1", "0 to 9 of 255"),
        ("used, but low contrast", "a/_22", "0 to 9 of 255"),
    ]
