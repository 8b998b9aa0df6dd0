import io
import os
import pathlib
import socket
import tarfile

import fakes
import pytest

from pipeline.sources import passed_over
from pipeline.sources.listing import list_images
from pipeline.sources.walk import walk_folder


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return fakes.write_folder(tmp_path / "photos", per_class=1)


def _write(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_pipes_and_sockets_are_passed_over_and_links_to_files_are_not(folder):
    os.mkfifo(folder / "circle" / "pipe.jpg")
    (folder / "circle" / "to_pipe.jpg").symlink_to("pipe.jpg")
    (folder / "circle" / "to_device.jpg").symlink_to("/dev/zero")
    (folder / "circle" / "link.jpg").symlink_to(folder / "square" / "00.jpg")
    (folder / "circle" / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "circle" / "self.jpg").symlink_to("self.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)  # The path of a socket may have 107 characters.
        server.bind("square/socket.jpg")
    walk = walk_folder(folder)
    assert list(walk.paths) == [
        "circle/00.jpg",
        "circle/link.jpg",
        "square/00.jpg",
        "stripe/00.jpg",
    ]
    assert walk.passed_over == {
        passed_over.BROKEN_LINKS: ["circle/gone.jpg", "circle/self.jpg"],
        passed_over.NOT_REGULAR: [
            "circle/pipe.jpg",
            "circle/to_device.jpg",
            "circle/to_pipe.jpg",
            "square/socket.jpg",
        ],
    }


def test_a_class_folder_may_be_a_link_but_not_to_a_folder_around_it(folder, tmp_path):
    fakes.write_folder(tmp_path / "elsewhere", per_class=1)
    (folder / "linked").symlink_to(tmp_path / "elsewhere" / "circle")
    (folder / "circle_of_links").symlink_to(folder)
    (folder / "parent").symlink_to(tmp_path)
    walk = walk_folder(folder)
    assert walk.class_folders == ["circle", "linked", "square", "stripe"]
    assert "linked/00.jpg" in walk.paths
    assert walk.passed_over == {
        passed_over.LINKED_FOLDERS: ["circle_of_links", "parent"]
    }


def test_films_and_rubbish_are_one_line_for_each_kind_with_counts(folder):
    for index in range(60):
        _write(folder / "circle" / f"IMG_{index:04d}.MOV")
    for name in ("._IMG_1.jpg", ".trashed-1700000000-IMG_2.jpg", "IMG_3.AAE"):
        _write(folder / "square" / name)
    for name in ("Thumbs.db", "notes.txt", "IMG_4.DNG", "voice.m4a", "more.zip"):
        _write(folder / "stripe" / name)
    _write(folder / "stripe" / "@eaDir" / "thumb.jpg")
    listing = list_images(str(folder), seed=1, work_dir=pathlib.Path())
    assert len(listing.images) == 3
    films = [f"circle/IMG_{index:04d}.MOV" for index in range(5)]
    assert listing.notes == (
        "passed over, AppleDouble files of macOS: 1 (square/._IMG_1.jpg)",
        "passed over, archives inside the folder: 1 (stripe/more.zip)",
        "passed over, edits and notes that programs keep beside photographs: 1 "
        "(square/IMG_3.AAE)",
        f"passed over, films: 60 ({', '.join(films)} and 55 more)",
        "passed over, folders of systems: 1 (stripe/@eaDir)",
        "passed over, in the trash of a phone: 1 "
        "(square/.trashed-1700000000-IMG_2.jpg)",
        "passed over, raw camera files (to use them, export them as JPEG): 1 "
        "(stripe/IMG_4.DNG)",
        "passed over, sounds: 1 (stripe/voice.m4a)",
        "passed over, system files: 1 (stripe/Thumbs.db)",
        "passed over, texts and tables: 1 (stripe/notes.txt)",
    )


def _write_bytes(folder: pathlib.Path, *names: bytes) -> None:
    for name in names:
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)


def test_names_that_are_not_utf8_stay_different(folder):
    """Also beside a name that is written as the bytes of another one are shown."""
    names = [b"caf\xe8.jpg", b"caf\xe9.jpg", b"caf\\xe9.jpg", b"_caf\\xe9.jpg"]
    _write_bytes(folder / "circle", *names)
    images = list_images(str(folder), seed=1, work_dir=pathlib.Path()).images
    assert {i.name: i.read() for i in images if i.label == "circle"} == {
        "circle/00.jpg": (folder / "circle" / "00.jpg").read_bytes(),
        "circle/caf\\xe8.jpg": b"caf\xe8.jpg",
        "circle/__caf\\xe9.jpg": b"caf\xe9.jpg",
        "circle/caf\\xe9.jpg": b"caf\\xe9.jpg",
        "circle/_caf\\xe9.jpg": b"_caf\\xe9.jpg",
    }


def test_folders_that_are_not_utf8_stay_different(folder):
    names = [b"\xe8/1.jpg", b"\xe9/1.jpg", b"circle/\xe8/1.jpg", b"circle/\xe9/1.jpg"]
    _write_bytes(folder, *names)
    images = list_images(str(folder), seed=1, work_dir=pathlib.Path()).images
    assert {(i.name, i.label): i.read() for i in images if "1.jpg" in i.name} == {
        (r"\xe8/1.jpg", r"\xe8"): b"\xe8/1.jpg",
        (r"\xe9/1.jpg", r"\xe9"): b"\xe9/1.jpg",
        (r"circle/\xe8/1.jpg", "circle"): b"circle/\xe8/1.jpg",
        (r"circle/\xe9/1.jpg", "circle"): b"circle/\xe9/1.jpg",
    }


def test_names_in_an_archive_that_are_not_utf8_stay_different(tmp_path):
    path = tmp_path / "photos.tar"
    with tarfile.open(
        path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as archive:
        for name in ("a/\xe8.jpg", "a/\xe9.jpg", "\xe9/1.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    images = list_images(str(path), seed=1, work_dir=tmp_path).images
    assert [(image.name, image.label) for image in images] == [
        (r"\xe9/1.jpg", r"\xe9"),
        (r"a/\xe8.jpg", "a"),
        (r"a/\xe9.jpg", "a"),
    ]


def test_libraries_clouds_and_raw_files_are_passed_over_and_named(folder):
    for name in ("IMG_5.gpr", "IMG_6.IIQ", "PXL_7.MP", "sound.opus", "Icon\r"):
        _write(folder / "circle" / name)
    _write(folder / "circle" / ".IMG_8.HEIC.icloud")
    _write(folder / "Catalog Previews.lrdata" / "A" / "1.jpg")
    _write(folder / "square" / "CaptureOne" / "Cache" / "1.jpg.cot")
    listing = list_images(str(folder), seed=1, work_dir=pathlib.Path())
    assert len(listing.images) == 3
    assert listing.notes == (
        "passed over, films: 1 (circle/PXL_7.MP)",
        "passed over, hidden: 1 (circle/Icon\r)",
        "passed over, libraries of programs (to use them, export the photographs): 2 "
        "(Catalog Previews.lrdata, square/CaptureOne)",
        "passed over, photographs that are still in iCloud (download them to use them):"
        " 1 (circle/.IMG_8.HEIC.icloud)",
        "passed over, raw camera files (to use them, export them as JPEG): 2 "
        "(circle/IMG_5.gpr, circle/IMG_6.IIQ)",
        "passed over, sounds: 1 (circle/sound.opus)",
    )


def test_a_class_of_raw_files_alone_says_so(tmp_path):
    _write(tmp_path / "a" / "1.DNG")
    _write(tmp_path / "b" / "1.jpg")
    with pytest.raises(ValueError, match=r"a, which holds .*\(passed over, raw camera"):
        list_images(str(tmp_path), seed=1, work_dir=pathlib.Path())
