import pytest

from pipeline.audit.doubts import MEANINGS, find_doubts
from pipeline.inspection.image_report import ImageReport
from pipeline.inspection.quality import Quality
from pipeline.sources.images import SourceImage


def _report(name, quality, *, size=(300, 200)):
    width, height = size
    image = SourceImage(name, name.partition("/")[0], bytes)
    return ImageReport(image, None, width=width, height=height, quality=quality)


@pytest.mark.parametrize(
    ("quality", "doubts"),
    [
        (Quality(0, 64, 0.5), {}),
        (Quality(0, 63, 0.5), {"dark": "lightest 63 of 255"}),
        (Quality(192, 255, 0.5), {}),
        (Quality(193, 255, 0.5), {"bright": "darkest 193 of 255"}),
        (Quality(100, 132, 0.5), {}),
        (Quality(100, 131, 0.5), {"low contrast": "100 to 131 of 255"}),
        (Quality(0, 255, 0.25), {}),
        (Quality(0, 255, 0.244), {"blurred": "sharpness 0.24"}),
        (Quality(0, 255, None), {}),
        # Without contrast, no word about the sharpness.
        (Quality(100, 131, 0.1), {"low contrast": "100 to 131 of 255"}),
        (
            Quality(0, 9, None),
            {"dark": "lightest 9 of 255", "low contrast": "0 to 9 of 255"},
        ),
        (None, {}),
    ],
)
def test_limits_of_the_pixels(quality, doubts):
    found = find_doubts([_report("a/1.jpg", quality)])
    assert found == ({"a/1.jpg": doubts} if doubts else {})
    assert set(doubts) <= set(MEANINGS)


GOOD = Quality(0, 255, 1.0)


def test_limits_of_the_shape():
    reports = [
        _report("a/wide.jpg", GOOD, size=(301, 100)),
        _report("a/3.jpg", GOOD, size=(300, 100)),
        _report("a/high.jpg", GOOD, size=(100, 301)),
    ]
    assert find_doubts(reports) == {
        "a/wide.jpg": {"elongated": "301 x 100 pixels"},
        "a/high.jpg": {"elongated": "100 x 301 pixels"},
    }


def test_a_size_is_odd_in_its_own_class():
    reports = [_report(f"a/{n}.jpg", GOOD, size=(400, 400)) for n in range(5)]
    reports += [_report(f"b/{n}.jpg", GOOD, size=(99, 99)) for n in range(5)]
    reports += [
        _report("a/icon.jpg", GOOD, size=(99, 99)),
        _report("a/small.jpg", GOOD, size=(100, 100)),
        _report("a/large.jpg", GOOD, size=(1600, 1600)),
        _report("a/huge.jpg", GOOD, size=(1601, 1601)),
    ]
    assert find_doubts(reports) == {
        "a/icon.jpg": {"odd size": "99 x 99 pixels, usual side 400"},
        "a/huge.jpg": {"odd size": "1601 x 1601 pixels, usual side 400"},
    }


def test_four_images_have_no_usual_size():
    sizes = [(20, 20), (200, 200), (200, 200), (2000, 2000)]
    reports = [_report(f"a/{n}.jpg", GOOD, size=size) for n, size in enumerate(sizes)]
    assert find_doubts(reports) == {}
