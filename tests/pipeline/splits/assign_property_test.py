"""For any groups and any seed: no group crosses a split, and few groups ever move."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.decide import Audit, decide
from pipeline.inspection.image_report import ImageReport
from pipeline.sources.images import SourceImage
from pipeline.splits.assign import SplitPlan, assign_single_split

LABELS = st.sampled_from(["a", "b"])
# Few values, so that hashes, pixels and source groups coincide often.
IMAGES = st.lists(
    st.tuples(
        LABELS,
        st.integers(0, 6),
        st.integers(0, 3),
        st.one_of(st.none(), st.sampled_from("xyz")),
    ),
    min_size=1,
    max_size=30,
)


def _findings(drawn) -> list[ImageReport]:
    findings = []
    for index, (label, picture, version, group) in enumerate(drawn):
        # Versions of a picture differ in a few bits, pictures in about half of them.
        bits = np.random.default_rng(picture).random(256) < 0.5
        bits[: 4 * version] = ~bits[: 4 * version]
        findings.append(
            ImageReport(
                SourceImage(f"{label}/{index:02d}", label, bytes, group=group),
                problem=None,
                file_hash=f"{picture}-{version}-{index % 3}",
                perceptual_hash=np.packbits(bits).tobytes(),
            )
        )
    return findings


def _judge(findings: list[ImageReport], keep_conflicts: bool) -> Audit:
    pixels = {f.image.name: f.file_hash.rpartition("-")[0] for f in findings}
    return decide(findings, hash_pixels=lambda _: pixels, keep_conflicts=keep_conflicts)


def _split(found: Audit, seed: int) -> dict[str, str]:
    plan = SplitPlan(fractions=(0.5, 0.3, 0.2), seed=seed)
    return assign_single_split(found, plan, {})


@given(drawn=IMAGES, seed=st.integers(0, 1000), keep=st.booleans())
def test_what_belongs_together_is_in_one_split(drawn, seed, keep):
    found = _judge(_findings(drawn), keep)
    split_of = _split(found, seed)
    together = {}
    for finding in found.usable:
        picture = finding.file_hash.split("-")[0]
        split = split_of[finding.image.name]
        assert together.setdefault(picture, split) == split
        if finding.image.group is not None:
            assert together.setdefault(finding.image.group, split) == split
    assert set(split_of) == {finding.image.name for finding in found.usable}


@given(drawn=IMAGES, seed=st.integers(0, 1000), order=st.randoms())
def test_neither_order_nor_names_move_a_group_and_a_new_one_moves_few(
    drawn, seed, order
):
    drawn = [(label, picture, version, None) for label, picture, version, _ in drawn]
    findings = _findings(drawn)
    judged = _judge(findings, True)
    before = _split(judged, seed)
    by_hash = {
        f.file_hash: before[f.image.name] for f in findings if f.image.name in before
    }

    shuffled = [
        _rename(finding, f"other/{index}") for index, finding in enumerate(findings)
    ]
    order.shuffle(shuffled)
    found = _judge(shuffled, True)
    renamed = _split(found, seed)
    for finding in found.usable:
        if finding.file_hash in by_hash:
            assert renamed[finding.image.name] == by_hash[finding.file_hash]

    (new,) = _findings([("a", 7, 0, None)])
    found = _judge([*findings, _rename(new, "a/new")], True)
    after = _split(found, seed)
    moved = {judged.group_of[name] for name in before if after[name] != before[name]}
    assert len(moved) <= 2


def _rename(finding: ImageReport, name: str) -> ImageReport:
    image = dataclasses.replace(finding.image, name=name)
    return dataclasses.replace(finding, image=image)
