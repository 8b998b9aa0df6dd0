import functools

import pytest

from pipeline.sources.images import Listing, SourceImage
from pipeline.sources.twins import group_twins


def _group(*names: str) -> dict[str, str | None]:
    images = [SourceImage(name, "a", functools.partial(bytes, 1)) for name in names]
    return {image.name: image.group for image in group_twins(Listing(images)).images}


@pytest.mark.parametrize(
    "names",
    [
        ("a/IMG_1234.HEIC", "a/IMG_1234.jpg"),
        ("a/IMG_1234.JPG", "a/img_1234.heic", "a/IMG_E1234.JPG"),
        ("a/PXL_2023.jpg", "a/PXL_2023-edited.jpg"),
        ("a/PXL_2023.jpg", "a/PXL_2023~2.jpg"),
        ("a/x_EDIT.tif", "a/x.jpg"),
        ("a/rose.jpg", "a/rose (edited).jpg"),
    ],
)
def test_files_of_one_photograph_have_a_group(names):
    groups = _group(*names, "a/other.jpg", "b/IMG_1234.jpg")
    assert {groups[name] for name in names} == {names[0]}
    assert groups["a/other.jpg"] is None
    assert groups["b/IMG_1234.jpg"] is None


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.jpg", "a/1.png"),
        ("a/rose (1).jpg", "a/rose (2).jpg", "a/rose.jpg"),
        ("a/IMG_1234.HEIC", "b/IMG_1234.jpg"),
        ("a/edited.jpg", "a/IMG_E1234.jpg"),
        ("a/IMG_1.jpg", "a/IMG_E1.jpg"),
    ],
)
def test_other_names_have_none(names):
    assert set(_group(*names).values()) == {None}


def test_a_note_counts_and_a_group_of_the_source_stays():
    read = functools.partial(bytes, 1)
    images = [
        SourceImage(f"a/{index}{suffix}", "a", read)
        for index in range(7)
        for suffix in (".heic", ".jpg")
    ]
    images[1] = SourceImage("a/0.jpg", "a", read, group="given")
    listing = group_twins(Listing(images, ("first",)))
    assert listing.notes[0] == "first"
    assert listing.notes[1].startswith(
        "several files of one photograph by their names, kept in one split: 7 "
        "(a/0.heic + a/0.jpg, "
    )
    assert listing.notes[1].endswith("a/4.heic + a/4.jpg and 2 more)")
    assert [image.group for image in listing.images[:3]] == [
        *("a/0.heic", "given", "a/1.heic")
    ]
