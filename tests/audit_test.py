import io

import fakes
import numpy as np
import pytest
from PIL import Image

from pipeline import audit, sources


def _audit(folder):
    return audit.audit_images(sources.list_images(str(folder), seed=1))


def test_every_bad_file_is_left_out_with_its_reason(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=3)
    jpeg = (folder / "circle" / "00.jpg").read_bytes()
    (folder / "circle" / "empty.jpg").write_bytes(b"")
    (folder / "circle" / "notes.txt").write_text("no image")
    (folder / "circle" / "page.jpg").write_text("<html>not found</html>")
    (folder / "square" / "short.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    fakes.draw("square", 9).save(folder / "square" / "scan.tiff")
    (folder / "square" / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    found = _audit(folder)
    assert found.rejected == {
        "circle/empty.jpg": "empty file",
        "circle/notes.txt": "not an image",
        "circle/page.jpg": "not an image",
        "square/gone.jpg": "cannot be read: No such file or directory",
        "square/scan.tiff": "unsupported format TIFF "
        "(supported: JPEG, PNG, GIF, BMP, WEBP)",
        "square/short.jpg": "damaged: cannot be decoded",
    }
    assert len(found.usable) == 9


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=1)
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    (folder / "circle" / "bomb.png").write_bytes(bomb.getvalue())
    assert _audit(folder).rejected == {
        "circle/bomb.png": "too large: 12000 x 12000 pixels (limit: 100000000 pixels)"
    }


def test_the_same_pixels_in_another_file_are_one_group(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=2)
    pixels = np.asarray(fakes.draw("circle", 7))
    Image.fromarray(pixels).save(folder / "circle" / "a.png")
    Image.fromarray(pixels).save(folder / "circle" / "b.bmp")
    found = _audit(folder)
    assert found.duplicates == [["circle/a.png", "circle/b.bmp"]]
    assert found.conflicts == []
    assert found.group_of["circle/a.png"] == found.group_of["circle/b.bmp"]
    assert len(set(found.group_of.values())) == 7


def test_the_same_picture_in_two_classes_is_left_out_of_both(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=2)
    copied = (folder / "circle" / "00.jpg").read_bytes()
    (folder / "square" / "copy.jpg").write_bytes(copied)
    found = _audit(folder)
    assert found.conflicts == [["circle/00.jpg", "square/copy.jpg"]]
    left = [image.name for image in found.usable]
    assert left == [
        "circle/01.jpg",
        "square/00.jpg",
        "square/01.jpg",
        "stripe/00.jpg",
        "stripe/01.jpg",
    ]
    assert sorted(found.group_of) == left


def test_group_keys_do_not_depend_on_names_or_order(tmp_path):
    first = fakes.write_folder(tmp_path / "first", per_class=3)
    second = fakes.write_folder(tmp_path / "second", per_class=3)
    (second / "circle" / "00.jpg").rename(second / "circle" / "ZZ.JPG")
    keys = [_audit(folder).group_of for folder in (first, second)]
    assert keys[0]["circle/00.jpg"] == keys[1]["circle/ZZ.JPG"]
    assert sorted(keys[0].values()) == sorted(keys[1].values())


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_supported_format_is_usable(tmp_path, image_format, mode):
    folder = fakes.write_folder(tmp_path, per_class=1)
    path = folder / "circle" / "image.bin"
    fakes.draw("circle", 5).convert(mode).save(path, image_format)
    found = _audit(folder)
    assert found.rejected == {}
    assert "circle/image.bin" in found.group_of
