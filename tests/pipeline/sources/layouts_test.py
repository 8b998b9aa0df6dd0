import pathlib

import pytest

from pipeline.sources.layouts import Layout, find_layout
from pipeline.sources.listing import list_images


def _names(*folders: str) -> list[str]:
    return [f"{folder}/{index}.jpg" for folder in folders for index in range(2)]


@pytest.mark.parametrize(
    ("names", "class_level", "split_level"),
    [
        (_names("daisy", "rose"), 1, None),
        (_names("daisy/images", "rose/images"), 1, None),
        (_names("daisy/front", "daisy/side", "rose/front"), 1, None),
        (_names("train/daisy", "train/rose", "val/daisy"), 2, 1),
        (_names("training_set/daisy", "training_set/rose", "test_set/rose"), 2, 1),
        (_names("train/daisy", "train/rose", "test"), 2, 1),
        (_names("daisy/train", "daisy/test", "rose/train", "rose/val"), 1, 2),
        (_names("2019/daisy", "2019/rose", "2020/rose"), 2, None),
        (_names("train_images/daisy", "train_images/rose", "images-val/rose"), 2, 1),
        (_names("2019-05/daisy", "2019-05/rose", "2019-06/rose"), 2, None),
        (_names("train", "car", "plane"), 1, None),
        (_names("100ab", "2019/ab"), 1, None),
        (_names("10000000", "20191301"), 1, None),
        (_names("2019", "daisy"), 1, None),
    ],
)
def test_the_class_and_the_split_are_found(names, class_level, split_level):
    layout = find_layout(names)
    assert (layout.class_level, layout.split_level) == (class_level, split_level)


def test_the_label_and_the_split_of_a_name():
    layout = find_layout(_names("daisy/train", "daisy/Test", "rose/train"))
    assert layout.find_label("daisy/Test/1.jpg") == "daisy"
    assert layout.find_split("daisy/Test/1.jpg") == "test"
    assert layout.find_split("daisy/1.jpg") is None
    assert Layout(2).find_label("daisy/1.jpg") is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (_names("images", "labels"), r"detection or segmentation.*images, labels"),
        (_names("JPEGImages", "Annotations"), "Received: Annotations, JPEGImages"),
        (_names("train/images", "train/labels", "val/images"), "images, labels"),
        (_names("train", "test"), "but train holds no folders"),
        (
            _names("train/daisy", "test/daisy", "single_prediction"),
            "train are named as splits, and single_prediction is not",
        ),
        (_names("2019", "2020", "2021"), "are dates, .*2019, 2020, 2021"),
        *(
            (_names(*folders), "those of a camera, not classes")
            for folders in (
                ("100APPLE", "101APPLE"),
                ("100MSDCF", "101_PANA"),
                ("2019-05-01", "2019-05-02 Rome"),
                ("20190501", "20190502"),
                ("202005__", "202006__"),
                ("2020-05", "2020-06"),
                ("Photos from 2019", "Photos from 2020"),
            )
        ),
        (_names("train_images", "test_images"), "but train holds no folders"),
        (
            _names("train2017", "val2017", "annotations"),
            "train2017, val2017 are named as splits, and annotations is not",
        ),
        (
            _names("a/daisy", "a/rose", "b/daisy", "b/rose"),
            "either could be the classes. Received: a, b, each with daisy, rose",
        ),
        (
            _names(*(f"{c}/{d}" for c in "abcdefgh" for d in "xy")),
            "a, b, c, d, e and 3 more",
        ),
    ],
)
def test_what_is_plainly_no_folder_for_each_class_is_refused(names, message):
    with pytest.raises(ValueError, match=message) as error:
        find_layout(names)
    assert "--class_level=1" in str(error.value)
    assert find_layout(names, class_level=1) == Layout(1)


def _write(folder: pathlib.Path, names: list[str]) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return str(folder)


def _list(source: str, **options):
    return list_images(source, seed=1, work_dir=pathlib.Path(), **options)


def test_years_are_understood_and_said(tmp_path):
    source = _write(
        tmp_path, _names("2019/daisy", "2019/rose", "2020/daisy", "2020/rose")
    )
    listing = _list(source)
    assert {image.label for image in listing.images} == {"daisy", "rose"}
    assert listing.notes == (
        "the folders 2019, 2020 are dates; the folders in them are the classes",
    )
    years = _list(source, class_level=1)
    assert {image.label for image in years.images} == {"2019", "2020"}


def test_splits_in_the_classes_are_the_splits(tmp_path):
    source = _write(
        tmp_path,
        [*_names("daisy/train", "daisy/val", "rose/train", "rose/val"), "rose/9.jpg"],
    )
    (tmp_path / "rose" / "9.jpg").unlink()
    listing = _list(source)
    assert {(i.label, i.split) for i in listing.images} == {
        *(("daisy", "train"), ("daisy", "validation")),
        *(("rose", "train"), ("rose", "validation")),
    }
    assert listing.notes == (
        "the folders in the classes are splits, and are kept: train 4, validation 4 "
        "(--resplit ignores them)",
    )


def test_photographs_and_texts_of_another_task_are_named(tmp_path):
    source = _write(tmp_path, _names("images"))
    _write(tmp_path, ["labels/0.txt", "labels/1.txt"])
    with pytest.raises(ValueError, match="Received: images, labels"):
        _list(source)


def test_an_empty_folder_of_a_split_is_no_class(tmp_path):
    source = _write(tmp_path, _names("train/daisy", "train/rose"))
    (tmp_path / "test").mkdir()
    assert {image.label for image in _list(source).images} == {"daisy", "rose"}


def test_the_second_folder_can_be_the_class(tmp_path):
    source = _write(tmp_path, _names("a/daisy", "a/rose", "b/daisy", "b/rose"))
    listing = _list(source, class_level=2)
    assert [(image.name, image.label) for image in listing.images[:3]] == [
        ("a/daisy/0.jpg", "daisy"),
        ("a/daisy/1.jpg", "daisy"),
        ("a/rose/0.jpg", "rose"),
    ]


def test_folders_in_every_class_are_said(tmp_path):
    names = _names("flower/daisy", "flower/rose", "tree/oak")
    listing = _list(_write(tmp_path, names))
    assert {image.label for image in listing.images} == {"flower", "tree"}
    assert listing.notes == (
        "the first folders are the classes; the 3 folders in them (daisy, oak, rose) "
        "do not count, unless you add --class_level=2",
    )
    _write(tmp_path, ["tree/1.jpg"])
    assert _list(str(tmp_path)).notes == ()
