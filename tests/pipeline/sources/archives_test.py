import pathlib
import pickle
import zipfile

import pytest

from pipeline.sources import archives
from pipeline.sources.listing import list_images
from pipeline.system import regular_file


def _list(source):
    return list_images(str(source), seed=1, work_dir=pathlib.Path())


def _zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_is_read_in_place_like_the_folder_in_it(tmp_path):
    path = _zip(
        tmp_path / "set.zip",
        {
            "set/rose/1.jpg": b"one",
            "set/tulip/2.jpg": b"two",
            "set/set/rose/1.jpg": b"one",
            "set/set/tulip/2.jpg": b"two",
            "__MACOSX/set/rose/._1.jpg": b"junk",
        },
    )
    listing = _list(path)
    assert [(i.name, i.label) for i in listing.images] == [
        ("rose/1.jpg", "rose"),
        ("tulip/2.jpg", "tulip"),
    ]
    assert pickle.loads(pickle.dumps(listing.images[1].read))() == b"two"
    assert listing.notes == (
        "set/ repeats the class folders: 2 files are there already",
        "passed over, folders of systems: 1 (__MACOSX/set/rose/._1.jpg)",
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.zip"]


@pytest.mark.parametrize("name", ["../rose/1.jpg", "/rose/1.jpg", "a/../../b/1.jpg"])
def test_a_zip_whose_names_leave_it_is_refused(tmp_path, name):
    path = _zip(tmp_path / "bad.zip", {name: b"x", "rose/1.jpg": b"x"})
    with pytest.raises(ValueError, match=f"Received: --source={path}"):
        _list(path)


def test_a_zip_beyond_the_limits_is_refused(tmp_path, monkeypatch):
    path = _zip(tmp_path / "big.zip", {"rose/1.jpg": b"x" * 99, "tulip/1.jpg": b"x"})
    monkeypatch.setattr(archives, "_MAX_FILES", 1)
    with pytest.raises(ValueError, match="with 2 files and 100 bytes"):
        _list(path)
    monkeypatch.undo()
    monkeypatch.setattr(regular_file, "MAX_FILE_BYTES", 50)
    rose, tulip = _list(path).images
    with pytest.raises(ValueError, match="more than 50 bytes"):
        rose.read()
    assert tulip.read() == b"x"
