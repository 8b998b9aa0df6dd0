import numpy as np
import pytest

from pipeline.audit import usable_classes
from pipeline.audit.decide import decide
from pipeline.inspection.image_report import ImageReport
from pipeline.sources.images import Listing, SourceImage


def _report(name, picture, problem=None):
    """A report of an image that shows the picture of this number."""
    hash_bits = np.random.default_rng(picture).random(256) < 0.5
    return ImageReport(
        SourceImage(name, name.partition("/")[0], bytes),
        problem,
        file_hash=name,
        perceptual_hash=np.packbits(hash_bits).tobytes(),
    )


def _find_error(*reports) -> str:
    audit = decide(reports, hash_pixels=lambda images: {i.name: i.name for i in images})
    listing = Listing([report.image for report in reports])
    with pytest.raises(ValueError, match="has no image that can be used") as caught:
        usable_classes.check_every_class(listing, audit)
    return str(caught.value)


def test_a_class_whose_pictures_are_all_in_another_is_named_once():
    reports = [_report(f"{c}/{n}", n) for c in "abc" for n in range(6) if c < "c" or n]
    assert _find_error(*reports, _report("a/own", 9), _report("c/own", 10)) == (
        "Class 'b' has no image that can be used. Received: "
        "the same picture is under 'a': 1 (b/0), "
        "the same picture is under 'a', 'c': 5 (b/1, b/2, b/3 and 2 more). "
        "Remove the wrong copies, or keep all of them with --conflicts=keep."
    )


def test_each_reason_has_its_count_and_examples():
    problems = ["empty file", "not an image", "not an image"]
    reports = [_report(f"a/{n}", n, problem) for n, problem in enumerate(problems)]
    empty = _report("c/1", 8, "empty file")
    assert _find_error(*reports, _report("b/1", 9), empty) == (
        "Class 'a' has no image that can be used. Received: empty file: 1 (a/0), "
        "not an image: 2 (a/1, a/2). These classes have none either: 'c'. Add images "
        "or remove the class."
    )
