"""Folders that broke other tools, as docs/reference/odd-folders.md lists them.

Each case is a function of the name in that table. It writes a folder, and returns what
the preparation must make of it.
"""

import dataclasses
import io
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping

import fakes
import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline import prepare
from pipeline.prepare import Rules

DOCUMENT = fakes.REPOSITORY / "docs" / "reference" / "odd-folders.md"


@dataclasses.dataclass(frozen=True)
class Result:
    """What must come out.

    labels: name -> label of each image that is used, beside a/1.jpg and b/1.jpg.
    problems: name -> start of the reason of each image that is left out.
    oddities: name -> an oddity of an image that is used.
    splits: name -> split that the source gives.
    conflicts: names of the images of each picture that is under several classes.
    note: a part of what is said of the source.
    error: a pattern of the error that ends the preparation.
    source: the source, if it is not the folder.
    """

    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    oddities: Mapping[str, str] = dataclasses.field(default_factory=dict)
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    conflicts: list[list[str]] = dataclasses.field(default_factory=list)
    note: str = ""
    error: str = ""
    source: str = ""


CASES: dict[str, Callable[[pathlib.Path], Result]] = {}


def case(function: Callable[[pathlib.Path], Result]) -> Callable:
    """Makes a function a case, under its name."""
    CASES[function.__name__.strip("_").replace("_", " ")] = function
    return function


def _photograph(index: int) -> Image.Image:
    return fakes.draw(fakes.CLASSES[index % 3], index)


def _save(path: pathlib.Path, index: int = 50, **options) -> pathlib.Path:
    """Writes a photograph that differs with the index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _photograph(index).save(path, **options)
    return path


def _write(path: pathlib.Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _encode(image: Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


@case
def hidden_folder(folder):
    _save(folder / ".ipynb_checkpoints" / "1-checkpoint.jpg")
    _save(folder / "a" / ".ipynb_checkpoints" / "1-checkpoint.jpg")
    return Result(note="passed over, hidden: 2 ")


@case
def files_of_macos(folder):
    _write(folder / ".DS_Store", b"\0")
    _write(folder / "a" / ".DS_Store", b"\0")
    _write(folder / "a" / "._1.jpg", b"\0\5\x16\7")
    _save(folder / "__MACOSX" / "a" / "1.jpg")
    return Result(note="passed over, AppleDouble files of macOS: 1 (a/._1.jpg)")


@case
def files_of_windows(folder):
    _write(folder / "a" / "Thumbs.db", b"\xd0\xcf")
    _write(folder / "desktop.ini", b"[.ShellClassInfo]")
    return Result(note="passed over, system files: 2 ")


@case
def web_page_named_jpg(folder):
    _write(folder / "a" / "2.jpg", b"<!DOCTYPE html><title>404</title>")
    return Result(problems={"a/2.jpg": "not an image"})


@case
def empty_file(folder):
    _write(folder / "a" / "2.jpg", b"")
    return Result(problems={"a/2.jpg": "empty file"})


@case
def zeros_only(folder):
    _write(folder / "a" / "2.jpg", bytes(4096))
    return Result(problems={"a/2.jpg": "not an image"})


@case
def half_downloaded(folder):
    whole = _encode(_photograph(9), "JPEG")
    _write(folder / "a" / "2.jpg", whole[: len(whole) // 2])
    whole = _encode(_photograph(9), "PNG")
    _write(folder / "a" / "3.png", whole[: len(whole) // 2])
    return Result(problems={"a/2.jpg": "damaged", "a/3.png": "damaged"})


@case
def accepted_when_truncated_images_are_loaded(folder):
    """Another library of the process may tell Pillow to fill up what is missing."""
    whole = _encode(_photograph(9).resize((300, 300)), "JPEG", quality=95)
    _write(folder / "a" / "2.jpg", whole[: len(whole) * 2 // 3])
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # The fixture resets it.
    return Result(problems={"a/2.jpg": "damaged"})


@case
def bytes_before_the_end_marker(folder):
    """Pillow reads such a file without a word, and TensorFlow with a warning."""
    whole = _encode(_photograph(9), "JPEG")
    _write(folder / "a" / "2.jpg", whole[:-2] + b"\0" * 300 + whole[-2:])
    return Result(labels={"a/2.jpg": "a"})


@case
def another_format_than_its_name(folder):
    _write(folder / "a" / "2.jpg", _encode(_photograph(9), "PNG"))
    _write(folder / "a" / "3.jpg", _encode(_photograph(10), "GIF"))
    _write(folder / "a" / "4.jpg", _encode(_photograph(11), "BMP"))
    _write(folder / "a" / "5.jpg", _encode(_photograph(12), "WEBP"))
    return Result(
        labels={f"a/{n}.jpg": "a" for n in (2, 3, 4, 5)},
        oddities={
            "a/2.jpg": "named '.jpg' but PNG",
            "a/3.jpg": "named '.jpg' but GIF",
            "a/4.jpg": "named '.jpg' but BMP",
            "a/5.jpg": "named '.jpg' but WEBP",
        },
    )


@case
def webp(folder):
    _save(folder / "a" / "2.webp", 9, lossless=True)
    return Result(labels={"a/2.webp": "a"})


@case
def unknown_format(folder):
    _save(folder / "a" / "2.ppm", 9)
    return Result(problems={"a/2.ppm": "unsupported format PPM (supported: JPEG, PNG"})


@case
def heic_of_a_phone(folder):
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    heif.register_heif_opener()
    _write(folder / "a" / "IMG_0002.HEIC", _encode(_photograph(9), "HEIF"))
    return Result(
        labels={"a/IMG_0002.HEIC": "a"},
        oddities={"a/IMG_0002.HEIC": "HEIF: stored as JPEG of quality 95"},
    )


@case
def animation(folder):
    frames = [_photograph(n).resize((40, 40)) for n in (9, 12, 15)]
    content = _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    _write(folder / "a" / "2.gif", content)
    return Result(
        labels={"a/2.gif": "a"},
        oddities={"a/2.gif": "animated: the first frame counts"},
    )


@case
def upper_case_extension(folder):
    for name in ("2.JPG", "3.JPEG", "4.Jpg"):
        _write(folder / "a" / name, _encode(_photograph(len(name) * 3), "JPEG"))
    _write(folder / "a" / "4.Jpg", _encode(_photograph(9), "JPEG"))
    return Result(labels=dict.fromkeys(("a/2.JPG", "a/3.JPEG", "a/4.Jpg"), "a"))


@case
def no_extension(folder):
    _write(folder / "a" / "0002", _encode(_photograph(9), "JPEG"))
    return Result(labels={"a/0002": "a"})


@case
def turned_by_exif(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(folder / "a" / "2.jpg", 9, exif=exif)
    return Result(
        labels={"a/2.jpg": "a"},
        oddities={"a/2.jpg": "rotated by EXIF: stored upright"},
    )


@case
def damaged_exif(folder):
    exif = (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\xff\xff\xff\xff"
    )
    _save(folder / "a" / "2.jpg", 9, exif=exif)
    return Result(labels={"a/2.jpg": "a"})


@case
def grey_among_colours(folder):
    _write(folder / "a" / "2.jpg", _encode(_photograph(9).convert("L"), "JPEG"))
    return Result(labels={"a/2.jpg": "a"}, oddities={"a/2.jpg": "grey"})


@case
def four_colours_of_print(folder):
    _write(folder / "a" / "2.jpg", _encode(_photograph(9).convert("CMYK"), "JPEG"))
    return Result(labels={"a/2.jpg": "a"}, oddities={"a/2.jpg": "CMYK"})


@case
def sixteen_bits(folder):
    samples = np.asarray(_photograph(9).convert("L"), np.uint16) * 257
    _write(folder / "a" / "2.png", _encode(Image.fromarray(samples), "PNG"))
    return Result(labels={"a/2.png": "a"}, oddities={"a/2.png": "16-bit"})


@case
def palette_with_transparent_entries(folder):
    image = _photograph(9).quantize(16)
    content = _encode(image, "PNG", transparency=bytes([0] * 4 + [255] * 12))
    _write(folder / "a" / "2.png", content)
    return Result(
        labels={"a/2.png": "a"},
        oddities={"a/2.png": "transparent: stored on white"},
    )


@case
def bmp_of_32_bits(folder):
    _write(folder / "a" / "2.bmp", _encode(_photograph(9).convert("RGBA"), "BMP"))
    return Result(labels={"a/2.bmp": "a"})


@case
def more_pixels_than_memory(folder):
    _write(folder / "a" / "2.png", _encode(Image.new("1", (12_000, 12_000)), "PNG"))
    return Result(problems={"a/2.png": "too large: 12000 x 12000 pixels"})


@case
def one_pixel(folder):
    _write(folder / "a" / "2.gif", _encode(Image.new("P", (1, 1)), "GIF"))
    return Result(problems={"a/2.gif": "too small: 1 x 1 pixels"})


@case
def placeholder_in_several_classes(folder):
    content = _encode(_photograph(9), "PNG")
    _write(folder / "a" / "gone.png", content)
    _write(folder / "b" / "gone.png", content)
    return Result(conflicts=[["a/gone.png", "b/gone.png"]])


@case
def empty_class_folder(folder):
    (folder / "c").mkdir()
    return Result(error=r"Every class folder needs images\. Received: .*/c, which")


@case
def class_without_a_usable_image(folder):
    _write(folder / "c" / "1.jpg", b"no image")
    return Result(error=r"Class 'c' has no image .*not an image: 1 \(c/1\.jpg\)")


@case
def one_folder_only(folder):
    shutil.rmtree(folder / "b")
    return Result(error=r"at least two classes.*one class, 'a'")


@case
def photographs_without_folders(folder):
    shutil.rmtree(folder / "b")
    shutil.move(folder / "a" / "1.jpg", folder / "1.jpg")
    shutil.rmtree(folder / "a")
    return Result(error=r"at least two classes.*no image")


@case
def folder_above_the_classes(folder):
    _move_into(folder, "data/photos")
    return Result(labels={"a/1.jpg": "a", "b/1.jpg": "b"})


def _move_into(folder: pathlib.Path, inner: str) -> None:
    for name in ("a", "b"):
        target = folder / inner / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / name, target)


@case
def splits_of_other_names(folder):
    _move_into(folder, "train")
    _save(folder / "valid" / "a" / "2.jpg", 9)
    _save(folder / "test" / "b" / "2.jpg", 10)
    names = ("train/a/1.jpg", "train/b/1.jpg", "valid/a/2.jpg", "test/b/2.jpg")
    splits = ("train", "train", "validation", "test")
    return Result(
        labels={name: name.split("/")[1] for name in names},
        splits=dict(zip(names, splits, strict=True)),
        note="the folders are splits, and are kept",
    )


@case
def class_that_a_split_lacks(folder):
    """Other tools number the classes of each split anew."""
    _move_into(folder, "train")
    _save(folder / "train" / "c" / "1.jpg", 9)
    _save(folder / "val" / "a" / "2.jpg", 12)
    _save(folder / "val" / "c" / "2.jpg", 15)
    names = ("train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg")
    names += ("val/a/2.jpg", "val/c/2.jpg")
    return Result(labels={name: name.split("/")[1] for name in names})


@case
def folders_inside_a_class(folder):
    _save(folder / "a" / "monday" / "2.jpg", 9)
    _save(folder / "a" / "tuesday" / "wet" / "3.jpg", 12)
    return Result(labels={"a/monday/2.jpg": "a", "a/tuesday/wet/3.jpg": "a"})


@case
def class_names_that_are_numbers(folder):
    for label in ("0", "1", "2", "10"):
        _save(folder / label / "1.jpg", 3 * int(label) + 9)
    return Result(labels={f"{label}/1.jpg": label for label in ("0", "1", "2", "10")})


@case
def names_of_other_scripts(folder):
    names = ("花/写真 1.jpg", "é/à.jpg", "roses & co/50 %.jpg")
    for index, name in enumerate(names):
        _save(folder / name, 3 * index + 9)
    return Result(labels={name: name.split("/")[0] for name in names})


@case
def links_to_photographs(folder):
    """The class is the folder of the link, not that of the photograph."""
    store = folder.with_name("store")
    _save(store / "others" / "1.jpg", 9)
    (folder / "a" / "link.jpg").symlink_to(store / "others" / "1.jpg")
    (folder / "a" / "loop").symlink_to(folder)
    return Result(labels={"a/link.jpg": "a"}, note="passed over, links to folders: 1")


@case
def same_photograph_in_train_and_test(folder):
    _move_into(folder, "train")
    shutil.copytree(folder / "train" / "a", folder / "test" / "a")
    _save(folder / "test" / "b" / "2.jpg", 9)
    names = ("train/b/1.jpg", "test/b/2.jpg", "test/a/1.jpg")
    return Result(labels={name: name.split("/")[1] for name in names})


@case
def archive_of_macos(folder):
    path = folder.with_name("photos.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.jpg", "b/1.jpg"):
            archive.write(folder / name, f"photos/{name}")
            archive.writestr(f"__MACOSX/photos/{name}".replace("1.", "._1."), b"\0\5")
    return Result(source=str(path), note="passed over, ")


@case
def table_without_extensions(folder):
    table = folder / "train.csv"
    table.write_text("path,label\na/1,a\nb/1,b\n")
    return Result(source=f"csv:{table}")


@case
def table_with_an_empty_path(folder):
    table = folder / "train.csv"
    table.write_text("path,label\na/1.jpg,a\n,b\n")
    return Result(source=f"csv:{table}", error=r"Each line needs a path.*line 3")


@case
def table_with_a_missing_photograph(folder):
    table = folder / "train.csv"
    table.write_text("path,label\na/1.jpg,a\nb/1.jpg,b\nb/2.jpg,b\n")
    problem = {"b/2.jpg": "cannot be read: No such file or directory"}
    return Result(source=f"csv:{table}", problems=problem)


@pytest.fixture(autouse=True)
def _reset_pillow():
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = before


@pytest.mark.parametrize("name", CASES)
def test_a_folder_that_broke_another_tool(name, tmp_path):
    folder = tmp_path / "photos"
    _save(folder / "a" / "1.jpg", 1)
    _save(folder / "b" / "1.jpg", 2)
    expected = CASES[name](folder)
    before = _list_files(folder)

    def run():
        listing, audit = prepare.examine(
            expected.source or str(folder),
            seed=1,
            rules=Rules(),
            work_dir=tmp_path,
            beam_runner=None,
        )
        prepare.usable_classes.check_every_class(listing, audit)
        return listing, audit

    if expected.error:
        with pytest.raises(ValueError, match=expected.error) as caught:
            run()
        assert "\n" not in str(caught.value)
    else:
        listing, audit = run()
        _check(expected, listing, audit)
    assert _list_files(folder) == before


def _list_files(folder: pathlib.Path) -> list[str]:
    return sorted(os.path.join(*found) for found in _walk(folder))


def _walk(folder: pathlib.Path):
    for parent, _, names in os.walk(folder):
        yield from ((parent, name) for name in names)


def _check(expected: Result, listing, audit) -> None:
    labels = {report.image.name: report.image.label for report in audit.usable}
    common = {"a/1.jpg": "a", "b/1.jpg": "b"}
    first = set(common) <= {image.name for image in listing.images}
    assert labels == {**(common if first else {}), **expected.labels}
    problems = {report.image.name: report.problem for report in audit.rejected}
    assert set(problems) == set(expected.problems)
    for name, start in expected.problems.items():
        assert problems[name].startswith(start)
    oddities = {report.image.name: report.oddities for report in audit.usable}
    for name, oddity in expected.oddities.items():
        assert oddity in oddities[name]
    splits = {image.name: image.split for image in listing.images}
    assert expected.splits.items() <= splits.items()
    assert audit.conflicts == expected.conflicts
    assert expected.note in "; ".join(listing.notes)


def test_the_table_of_the_document_is_that_of_the_cases():
    rows = re.findall(r"^\| `([\w ]+)` \|.*\|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == list(CASES)
    reports = re.findall(r"\]\((https://[^)]+)\)", DOCUMENT.read_text())
    assert len(set(reports)) >= 20
