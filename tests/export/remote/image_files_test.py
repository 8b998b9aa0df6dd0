import io
import os

import numpy as np
import pytest
from PIL import Image

from export.remote import image_files
from pipeline.inspection import reencoding


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
    read = [image_files.read_upright(str(path)) for path in paths]
    for index in (0, 2):
        assert read[index] == reencoding.bytes_to_store(files[index], max_side_px=None)
        with Image.open(io.BytesIO(read[index])) as image:
            assert image.size == (20, 30)
    assert [read[index] == files[index] for index in range(6)] == [
        *(False, True, False),
        *(True, True, True),
    ]


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        image_files.read_upright(str(tmp_path / "pipe.jpg"))
    with pytest.raises(FileNotFoundError):
        image_files.read_upright(str(tmp_path / "missing.jpg"))
