import io
import pathlib
import pickle
import tarfile
import zipfile

import pytest

from pipeline.sources import archives
from pipeline.sources.listing import list_images
from pipeline.system import regular_file


def _list(source, *, work_dir=pathlib.Path()):
    return list_images(str(source), seed=1, work_dir=work_dir)


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
    with pytest.raises(ValueError, match=r"with 2 files and 0\.0 GiB"):
        _list(path)
    monkeypatch.undo()
    monkeypatch.setattr(regular_file, "MAX_FILE_BYTES", 50)
    rose, tulip = _list(path).images
    with pytest.raises(ValueError, match="larger than"):
        rose.read()
    assert tulip.read() == b"x"


MEMBERS = {
    "./set/rose/1.jpg": b"one" * 1_000,
    "./set/tulip/2.jpg": b"two",
    "./set/tulip/film.mov": b"film",
    "./set/._rose": b"junk",
}


def _tar(path, members, *, mode="w", special=()):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind in special:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("set.tar", "w"),
        ("set.tgz", "w:gz"),
        ("set.tar.gz", "w:gz"),
        ("set.TAR.BZ2", "w:bz2"),
        ("set.tar.xz", "w:xz"),
        ("gz.tar", "w:gz"),
    ],
)
def test_a_tar_is_read_as_a_zip_is(tmp_path, name, mode):
    special = (
        ("./set/tulip/link.jpg", tarfile.SYMTYPE),
        ("./set/tulip/pipe.jpg", tarfile.FIFOTYPE),
        ("./set/tulip/device.jpg", tarfile.CHRTYPE),
    )
    path = _tar(tmp_path / name, MEMBERS, mode=mode, special=special)
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    listing = _list(path, work_dir=work_dir)
    assert [(image.name, image.label) for image in listing.images] == [
        ("rose/1.jpg", "rose"),
        ("tulip/2.jpg", "tulip"),
    ]
    images = pickle.loads(pickle.dumps(listing.images))
    assert [image.read() for image in images] == [b"one" * 1_000, b"two"]
    assert listing.notes == (
        "passed over, AppleDouble files of macOS: 1 (set/._rose)",
        "passed over, films: 1 (set/tulip/film.mov)",
    )
    written = [] if mode == "w" else ["source.tar"]
    assert [path.name for path in work_dir.iterdir()] == written


@pytest.mark.parametrize("name", ["../rose/1.jpg", "/rose/1.jpg", "a/../../b/1.jpg"])
def test_a_tar_whose_names_leave_it_is_refused(tmp_path, name):
    path = _tar(tmp_path / "bad.tar", {name: b"x", "rose/1.jpg": b"x"})
    with pytest.raises(ValueError, match=f"Received: --source={path} with the member"):
        _list(path)


def test_damaged_archives_are_one_line(tmp_path, monkeypatch):
    path = _tar(tmp_path / "set.tgz", MEMBERS, mode="w:gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"archive cannot be read: .*set\.tgz"):
        _list(path, work_dir=tmp_path)
    (tmp_path / "text.tar").write_text("no archive at all")
    with pytest.raises(ValueError, match=r"archive cannot be read: .*text\.tar"):
        _list(tmp_path / "text.tar")
    plain = _tar(tmp_path / "set.tar", {"rose/1.jpg": b"x" * 50, "tulip/1.jpg": b"x"})
    images = _list(plain).images
    plain.write_bytes(plain.read_bytes()[:530])
    with pytest.raises(ValueError, match="ends too early"):
        images[0].read()


def test_a_bomb_is_not_uncompressed(tmp_path, monkeypatch):
    path = _tar(tmp_path / "bomb.tgz", {"rose/1.jpg": bytes(30_000_000)}, mode="w:gz")
    monkeypatch.setattr(archives, "_MAX_GROWTH", -40_000)
    with pytest.raises(ValueError, match="when it is uncompressed"):
        _list(path, work_dir=tmp_path)


def test_samples_of_webdataset_have_their_class_beside_them(tmp_path):
    members = {
        "000.jpg": b"one",
        "000.cls": b"3",
        "001.seg.png": b"two",
        "001.cls": b"rose\n",
        "001.json": b"{}",
        "002.jpg": b"no class",
    }
    listing = _list(_tar(tmp_path / "shard.tar", members))
    assert [(i.name, i.label, i.read()) for i in listing.images] == [
        ("000.jpg", "3", b"one"),
        ("001.seg.png", "rose", b"two"),
    ]


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("gs://bucket/set", "gcloud storage cp --recursive gs://bucket/set ."),
        ("gs://bucket/set.zip", "gcloud storage cp gs://bucket/set.zip ."),
        ("csv:s3://bucket/a.csv", "aws s3 cp s3://bucket/a.csv ."),
        ("abfss://c@a.dfs.core.windows.net/set", "Download it first"),
        ("file:///photos", "Leave out file://"),
        ("s3://bucket/set", "aws s3 cp --recursive s3://bucket/set PHOTOS"),
        ("https://example.org/set.zip", "wget https://example.org/set.zip"),
        ("shard-{000..010}.tar", "Unpack them into one folder"),
    ],
)
def test_what_is_elsewhere_is_one_line_with_the_way_here(source, advice):
    with pytest.raises(ValueError, match="Received: --source=") as error:
        _list(source)
    assert advice in str(error.value)


@pytest.mark.parametrize("pattern", ["{}\\\\{}.jpg", "./{}/{}.jpg"])
def test_a_zip_of_other_separators_is_understood(tmp_path, pattern):
    members = {
        pattern.replace("\\\\", "\\").format(label, index): bytes([index])
        for index, label in enumerate(("rose", "tulip"))
    }
    images = _list(_zip(tmp_path / "set.zip", members)).images
    assert [(i.name, i.label, i.read()) for i in images] == [
        ("rose/0.jpg", "rose", b"\0"),
        ("tulip/1.jpg", "tulip", b"\1"),
    ]


def _zip_with_name(path, name: bytes):
    """A zip of rose/1.jpg and of a class whose name has no mark of UTF-8."""
    place = b"q" * len(name)
    _zip(path, {"rose/1.jpg": b"x", f"{place.decode()}/1.jpg": b"y"})
    path.write_bytes(path.read_bytes().replace(place, name))
    return path


def test_names_of_a_zip_are_utf8_also_without_the_mark(tmp_path):
    listing = _list(_zip_with_name(tmp_path / "set.zip", "pâquerette".encode()))
    assert [(i.label, i.read()) for i in listing.images] == [
        ("pâquerette", b"y"),
        ("rose", b"x"),
    ]
    assert listing.notes == ()


def test_names_of_a_zip_in_an_unknown_encoding_are_said(tmp_path):
    listing = _list(_zip_with_name(tmp_path / "set.zip", "薔薇".encode("cp932")))
    other = "薔薇".encode("cp932").decode("cp437")
    assert {image.label for image in listing.images} == {"rose", other}
    assert listing.notes == (
        f"names in an unknown encoding, read as IBM 437: 1 ({other}/1.jpg); if they "
        "look wrong, unpack the archive and give the folder",
    )


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"rose_1.jpg": b"x", "tulip_1.jpg": b"y"}, "beside the class folders: 2"),
        ({"rose.zip": b"PK", "tulip.zip": b"PK"}, "archives inside the folder: 2"),
    ],
)
def test_an_archive_without_class_folders_says_what_it_holds(tmp_path, members, found):
    message = f"which holds no image; passed over, {found} "
    with pytest.raises(ValueError, match=message):
        _list(_zip(tmp_path / "set.zip", members))
