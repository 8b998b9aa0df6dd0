import os
import pathlib
import pickle
import shutil

import fakes
import pytest
import requests

from pipeline.sources.listing import list_images


def _list(source, *, seed=1):
    return list_images(str(source), seed=seed, work_dir=pathlib.Path())


def test_folder_lists_relative_names_sorted_with_labels(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    images = _list(folder).images
    assert [(image.name, image.label) for image in images] == [
        ("circle/00.jpg", "circle"),
        ("circle/01.jpg", "circle"),
        ("square/00.jpg", "square"),
        ("square/01.jpg", "square"),
        ("stripe/00.jpg", "stripe"),
        ("stripe/01.jpg", "stripe"),
    ]
    assert images[2].read() == (folder / "square" / "00.jpg").read_bytes()
    assert pickle.loads(pickle.dumps(images[2])).read() == images[2].read()


def test_folder_looks_below_class_folders_and_passes_over_hidden_files(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=1)
    (folder / "circle" / "more").mkdir()
    (folder / "circle" / "more" / "ünï.jpg").write_bytes(b"x")
    (folder / "circle" / ".DS_Store").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / "readme.txt").write_text("not in a class folder")
    names = [image.name for image in _list(folder).images]
    assert names == [
        "circle/00.jpg",
        "circle/more/ünï.jpg",
        "square/00.jpg",
        "stripe/00.jpg",
    ]


def test_the_sample_has_180_images_a_class_that_depend_on_the_seed():
    images = _list("sample", seed=3).images
    assert len(images) == 5 * 180
    assert {image.label for image in images} == {
        "daisy",
        "dandelion",
        "rose",
        "sunflower",
        "tulip",
    }
    assert len({image.name for image in images}) == 900
    other = _list("sample", seed=4).images
    assert images[0].read() != other[0].read()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nowhere", r"does not exist\."),
        (lambda p: _touch(p / "file.jpg"), "which is another file"),
        (lambda p: p, "holds no image"),
        (lambda p: _touch(p / "only" / "1.jpg").parent.parent, "one class, 'only'"),
        (lambda p: _two_folders_one_empty(p), "no file that could be a photograph"),
    ],
)
def test_a_source_that_cannot_be_used_is_quoted(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        _list(path)
    assert str(path) in str(error.value)
    assert "Received:" in str(error.value)


def test_folders_that_hold_everything_are_passed_over(tmp_path):
    fakes.write_folder(tmp_path / "outer" / "flowers", per_class=1)
    names = [image.name for image in _list(tmp_path / "outer").images]
    assert names == ["circle/00.jpg", "square/00.jpg", "stripe/00.jpg"]


def test_a_second_copy_of_the_class_folders_is_one_line(tmp_path):
    """As in Kaggle's archive: flowers/ again inside the class folders."""
    folder = fakes.write_folder(tmp_path / "flowers", per_class=2)
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy").rename(folder / "flowers")
    fakes.draw("circle", 9).save(folder / "flowers" / "circle" / "only_here.jpg")
    listing = _list(folder)
    assert listing.notes == (
        "flowers/ repeats the class folders: 6 files are there already",
    )
    assert len(listing.images) == 7
    assert [image.name for image in listing.images if image.label == "circle"] == [
        "circle/00.jpg",
        "circle/01.jpg",
        "flowers/circle/only_here.jpg",
    ]


def test_links_in_a_circle_and_odd_names_do_no_harm(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=1)
    (folder / "circle" / "again").symlink_to(folder)
    (folder / "square" / '日本 語, "x".jpg').write_bytes(b"x")
    broken = os.fsencode(folder / "square") + b"/caf\xe9.jpg"
    with open(broken, "wb") as file:
        file.write(b"x")
    names = [image.name for image in _list(folder).images]
    assert names == [
        "circle/00.jpg",
        "square/00.jpg",
        r"square/caf\xe9.jpg",
        'square/日本 語, "x".jpg',
        "stripe/00.jpg",
    ]


def test_kaggle_without_a_network_names_the_alternatives(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    _no_network(monkeypatch)
    with pytest.raises(ValueError, match=r"--source=FILE\.zip") as error:
        _list("kaggle:alxmamaev/flowers-recognition")
    assert "Received: --source=kaggle:alxmamaev/flowers-recognition" in str(error.value)


def test_kaggle_uses_the_newest_version_in_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    _no_network(monkeypatch)
    versions = tmp_path / "datasets" / "someone" / "shapes" / "versions"
    for number in (2, 10):
        folder = fakes.write_folder(versions / str(number) / "shapes", per_class=number)
        shutil.copytree(folder, tmp_path / "copy")
        (tmp_path / "copy").rename(folder / "shapes")
        (versions.parent / f"{number}.complete").touch()
    listing = _list("kaggle:someone/shapes")
    assert len(listing.images) == 30
    assert listing.notes == (
        "shapes/ repeats the class folders: 30 files are there already",
    )


def _no_network(monkeypatch):
    import socket

    def refuse(*_, **__):
        raise OSError("no network in a test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def _two_folders_one_empty(path):
    _touch(path / "a" / "1.jpg")
    (path / "b").mkdir()
    return path


def test_a_tfds_set_without_a_network_says_so_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def refuse(*args, **kwargs):
        raise requests.ConnectionError("Failed to resolve the host")

    monkeypatch.setattr(requests, "head", refuse)
    with pytest.raises(ValueError, match=r"Failed to resolve.*tfds:tf_flowers"):
        list_images("tfds:tf_flowers", seed=1, work_dir=tmp_path)


def test_what_is_passed_over_is_named(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=3)
    (folder / "loose.jpg").write_bytes(b"x")
    (folder / "circle" / ".hidden.jpg").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / "circle" / "loop").symlink_to(folder)
    listing = list_images(str(folder), seed=1, work_dir=tmp_path)
    assert len(listing.images) == 9
    assert listing.notes == (
        "passed over, beside the class folders: 1 (loose.jpg)",
        "passed over, hidden: 2 (.git, circle/.hidden.jpg)",
        "passed over, links to folders: 1 (circle/loop)",
    )


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("Training", "valid", "Testing"), ("train", "validation", "test")),
        (("train", "validation"), ("train", "validation")),
    ],
)
def test_folders_that_are_named_as_splits_are_splits(tmp_path, names, splits):
    for name in names:
        fakes.write_folder(tmp_path / "outer" / "photos" / name, per_class=2)
    for source in (tmp_path / "outer", tmp_path / "outer" / "photos"):
        listing = _list(source)
        assert {image.label for image in listing.images} == set(fakes.CLASSES)
        found = {(image.name.split("/")[0], image.split) for image in listing.images}
        assert found == set(zip(names, splits, strict=True))
        assert listing.notes[0].startswith("the folders are splits, and are kept: ")


def test_test_images_without_classes_are_passed_over(tmp_path):
    fakes.write_folder(tmp_path / "photos" / "train", per_class=2)
    fakes.write_folder(tmp_path / "photos" / "validation", per_class=1)
    (tmp_path / "photos" / "test").mkdir()
    for index in range(3):
        fakes.draw("circle", index).save(tmp_path / "photos" / "test" / f"{index}.jpg")
    listing = _list(tmp_path / "photos")
    assert {image.split for image in listing.images} == {"train", "validation"}
    assert listing.notes[-1] == (
        "passed over, in no class folder: 3 files, for example test/0.jpg"
    )


def test_a_class_may_be_named_as_a_split(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    (folder / "circle").rename(folder / "train")
    assert {image.label for image in _list(folder).images} == {
        "square",
        "stripe",
        "train",
    }


@pytest.mark.parametrize("name", [" circle", "circle ", "cir\ncle"])
def test_a_class_name_that_tfds_would_change_is_refused(tmp_path, name):
    folder = fakes.write_folder(tmp_path / "photos", per_class=1)
    (folder / "circle").rename(folder / name)
    with pytest.raises(ValueError, match="no line break, and no blank") as error:
        _list(folder)
    assert repr(name) in str(error.value)
