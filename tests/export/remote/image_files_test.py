import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from export.remote import image_files
from pipeline.inspection import opening, reencoding
from pipeline.inspection.reencoding import StoredForm


def test_a_folder_is_searched_in_the_order_of_the_names(tmp_path, capsys):
    names = ["b.JPG", "a.jpeg", "deep/c.dib", "deep/a.webp", "early/z.png", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    paths = image_files.find_images([str(tmp_path / "notes.txt"), str(tmp_path)])
    assert [os.path.relpath(path, tmp_path) for path in paths] == [
        *("notes.txt", "a.jpeg", "b.JPG", "deep/a.webp", "deep/c.dib", "early/z.png")
    ]
    skipped = f"skipped, no suffix of an image: 1 ({tmp_path / 'notes.txt'})\n"
    assert capsys.readouterr().err == skipped


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "Name photographs, or folders of photographs, on the command line. Rec"),
        (["empty"], r"No photograph was found: .* Received: '.*empty'\. Name photogr"),
        (["empty", "text"], r"Received: '.*empty', '.*text'\. Name photographs"),
    ],
)
def test_arguments_without_a_photograph_are_refused(tmp_path, names, problem):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no photograph")
    with pytest.raises(ValueError, match=problem):
        image_files.find_images([str(tmp_path / name) for name in names])


def test_an_image_is_read_upright_and_any_other_file_as_it_is(tmp_path):
    wide = Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(tmp_path / "a.jpg", exif=exif)
    wide.save(tmp_path / "b.jpg")
    wide.save(tmp_path / "c.png", exif=exif)
    (tmp_path / "d.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    (tmp_path / "e.jpg").write_bytes(b"no image")
    wide.save(tmp_path / "f.tif")
    paths = sorted(tmp_path.iterdir())
    files = [path.read_bytes() for path in paths]
    read = [image_files.read_as_stored(str(path), StoredForm) for path in paths]
    for index in (0, 2):
        assert read[index] == reencoding.bytes_to_store(files[index], StoredForm())
        with Image.open(io.BytesIO(read[index])) as image:
            assert image.size == (20, 30)
    assert [read[index] == files[index] for index in range(6)] == [
        *(False, True, False),
        *(True, True, False),
    ]
    with Image.open(io.BytesIO(read[5])) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(wide))


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        image_files.read_as_stored(str(tmp_path / "pipe.jpg"), StoredForm)
    with pytest.raises(FileNotFoundError):
        image_files.read_as_stored(str(tmp_path / "missing.jpg"), StoredForm)


def test_an_image_of_12_bits_is_sent_as_it_was_stored(tmp_path):
    samples = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10
    Image.fromarray(samples).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    assert (
        image_files.read_as_stored(path, StoredForm)
        == (tmp_path / "a.png").read_bytes()
    )
    stored = image_files.read_as_stored(path, lambda: StoredForm(sample_bits=12))
    with Image.open(io.BytesIO(stored)) as image:
        np.testing.assert_array_equal(np.asarray(image), samples >> 4)


def test_heif_without_its_package_is_an_error_that_names_it(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    pillow_heif.from_pillow(Image.new("RGB", (20, 20))).save(tmp_path / "a.heic")
    stored = image_files.read_as_stored(str(tmp_path / "a.heic"), StoredForm)
    with Image.open(io.BytesIO(stored)) as image:
        assert image.format == "JPEG"
    opening.load_heif_reader.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    try:
        with pytest.raises(OSError, match="HEIF needs the extra heif"):
            image_files.read_as_stored(str(tmp_path / "a.heic"), StoredForm)
    finally:
        opening.load_heif_reader.cache_clear()


def test_the_form_is_asked_for_only_where_it_matters(tmp_path):
    asked = []

    def find_form():
        asked.append(True)
        return StoredForm(background="black")

    red = Image.new("RGBA", (20, 20), (200, 0, 0, 255))
    red.save(tmp_path / "opaque.bmp")
    red.convert("RGB").save(tmp_path / "plain.jpg")
    (tmp_path / "text.png").write_bytes(b"no image")
    for name in ("opaque.bmp", "plain.jpg", "text.png"):
        path = tmp_path / name
        assert image_files.read_as_stored(str(path), find_form) == path.read_bytes()
    assert asked == []
    red.paste((9, 99, 200, 0), (0, 0, 20, 10))
    red.save(tmp_path / "cut.png")
    stored = image_files.read_as_stored(str(tmp_path / "cut.png"), find_form)
    with Image.open(io.BytesIO(stored)) as image:
        assert image.getpixel((0, 0)) == (0, 0, 0)
        assert image.getpixel((0, 19)) == (200, 0, 0)
    assert asked == [True]


def test_an_error_of_the_server_is_not_hidden(tmp_path):
    def find_form():
        raise RuntimeError("no answer")

    Image.new("LA", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(RuntimeError, match="no answer"):
        image_files.read_as_stored(str(tmp_path / "a.png"), find_form)
