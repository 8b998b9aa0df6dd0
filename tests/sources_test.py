import pickle

import fakes
import pytest

from pipeline import sources


def test_folder_lists_relative_names_sorted_with_labels(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    images = sources.list_images(str(folder), seed=1)
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
    names = [image.name for image in sources.list_images(str(folder), seed=1)]
    assert names == [
        "circle/00.jpg",
        "circle/more/ünï.jpg",
        "square/00.jpg",
        "stripe/00.jpg",
    ]


def test_sample_is_sixty_images_a_class_that_depend_on_the_seed():
    images = sources.list_images("sample", seed=3)
    assert len(images) == 5 * 60
    assert {image.label for image in images} == {
        "daisy",
        "dandelion",
        "rose",
        "sunflower",
        "tulip",
    }
    assert len({image.name for image in images}) == 300
    other = sources.list_images("sample", seed=4)
    assert images[0].read() != other[0].read()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nowhere", r"is not there\."),
        (lambda p: _touch(p / "file.jpg"), r"which is a file\."),
        (lambda p: p, "holds no folder"),
        (lambda p: _touch(p / "only" / "1.jpg").parent.parent, "one class folder"),
        (lambda p: _two_folders_one_empty(p), "holds no file"),
    ],
)
def test_a_source_that_cannot_be_used_is_quoted(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        sources.list_images(str(path), seed=1)
    assert str(path) in str(error.value)
    assert "Received:" in str(error.value)


def test_one_folder_that_holds_the_class_folders_is_named_as_what_was_meant(tmp_path):
    fakes.write_folder(tmp_path / "outer" / "flowers", per_class=1)
    with pytest.raises(ValueError, match=r"Did you mean --source=.*outer/flowers"):
        sources.list_images(str(tmp_path / "outer"), seed=1)


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def _two_folders_one_empty(path):
    _touch(path / "a" / "1.jpg")
    (path / "b").mkdir()
    return path
