import dataclasses
import functools
import io

import fakes
import numpy as np
import pytest
from PIL import Image

from pipeline.audit.decide import decide
from pipeline.inspection import jpeg, perceptual_hash
from pipeline.inspection.inspect_images import hash_pixels, inspect_images
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.listing import list_images
from pipeline.system import parallel


def _audit(folder, *, min_side_px=16, max_side_px=None, **judged):
    listing = list_images(str(folder), seed=1, work_dir=folder)
    findings = inspect_images(
        listing.images, min_side_px=min_side_px, form=StoredForm(max_side_px)
    )
    return decide(
        findings,
        hash_pixels=functools.partial(hash_pixels, form=StoredForm(max_side_px)),
        **judged,
    )


def _problems(found):
    return {finding.image.name: finding.problem for finding in found.rejected}


def _oddities(found):
    return {f.image.name: list(f.oddities) for f in found.usable if f.oddities}


def test_every_bad_file_is_left_out_with_its_reason(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=3)
    whole = (folder / "circle" / "00.jpg").read_bytes()
    (folder / "circle" / "empty.jpg").write_bytes(b"")
    (folder / "circle" / "notes.jpg").write_text("no image")
    (folder / "circle" / "page.jpg").write_text("<html>not found</html>")
    (folder / "square" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    fakes.draw("square", 9).save(folder / "square" / "icon.ico")
    fakes.draw("square", 9).save(folder / "square" / "scan.tiff")
    found = _audit(folder)
    assert _problems(found) == {
        "circle/empty.jpg": "empty file",
        "circle/notes.jpg": "not an image",
        "circle/page.jpg": "not an image, but a web page",
        "square/icon.ico": "unsupported format ICO (supported: JPEG, PNG, GIF, BMP, "
        "WEBP, TIFF, JPEG2000, AVIF, HEIF, JXL)",
        "square/short.jpg": "damaged: cannot be decoded",
    }
    assert len(found.usable) == 10


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=1)
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    (folder / "circle" / "bomb.png").write_bytes(bomb.getvalue())
    assert _problems(_audit(folder)) == {
        "circle/bomb.png": "too large: 12000 x 12000 pixels (limit: 100 million pixels)"
    }


def test_of_equal_pixels_in_one_class_the_first_is_used(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=2)
    pixels = np.asarray(fakes.draw("circle", 7))
    Image.fromarray(pixels).save(folder / "circle" / "a.png")
    Image.fromarray(pixels).save(folder / "circle" / "b.bmp")
    found = _audit(folder)
    assert found.copies == [["circle/a.png", "circle/b.bmp"]]
    assert found.conflicts == []
    assert "circle/a.png" in found.group_of
    assert "circle/b.bmp" not in found.group_of
    assert len(found.usable) == 7


def test_the_same_picture_in_two_classes_is_left_out_of_both_or_kept(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=2)
    # Another encoding and size: the pixels differ, the picture does not.
    twin = fakes.draw("circle", 0).resize((90, 90))
    twin.save(folder / "square" / "twin.png")
    found = _audit(folder)
    assert found.conflicts == [["circle/00.jpg", "square/twin.png"]]
    left = [finding.image.name for finding in found.usable]
    assert left == [
        "circle/01.jpg",
        "square/00.jpg",
        "square/01.jpg",
        "stripe/00.jpg",
        "stripe/01.jpg",
    ]
    assert sorted(found.group_of) == left
    kept = _audit(folder, keep_conflicts=True)
    assert kept.conflicts == found.conflicts
    assert kept.group_of["circle/00.jpg"] == kept.group_of["square/twin.png"]
    assert len(kept.usable) == 7


def test_near_duplicates_share_a_group_and_a_source_group_joins_others(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=3)
    half = fakes.draw("circle", 1).resize((40, 40))
    half.save(folder / "circle" / "half.jpg", quality=70)
    listing = list_images(str(folder), seed=1, work_dir=folder)
    images = [
        dataclasses.replace(image, group="one shoot")
        if image.name in ("circle/01.jpg", "square/02.jpg")
        else image
        for image in listing.images
    ]
    findings = inspect_images(images, min_side_px=1)
    found = decide(
        findings, hash_pixels=functools.partial(hash_pixels, form=StoredForm())
    )
    assert found.near_duplicates == [
        ["circle/01.jpg", "circle/half.jpg", "square/02.jpg"]
    ]
    assert len(set(found.group_of.values())) == 8
    assert (
        found.group_of["circle/01.jpg"]
        == found.group_of["circle/half.jpg"]
        == found.group_of["square/02.jpg"]
    )


def test_what_is_odd_is_named_and_used(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=1)
    image = fakes.draw("square", 3)
    odd = folder / "square"
    fakes.draw("square", 4).convert("CMYK").save(odd / "cmyk.jpg")
    fakes.draw("square", 5).convert("L").save(odd / "grey.jpg")
    fakes.draw("square", 6).convert("P").save(odd / "palette.png")
    fakes.draw("square", 7).convert("RGBA").save(odd / "alpha.png")
    fakes.draw("square", 8).save(odd / "wrong.png", "JPEG")
    sixteen = np.asarray(fakes.draw("square", 9).convert("L")).astype(np.uint16) * 257
    Image.fromarray(sixteen).save(odd / "sixteen.png")
    frames = [fakes.draw("square", index).resize((50, 50)) for index in (10, 11)]
    frames[0].save(odd / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(odd / "moving.webp", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(odd / "turned.jpg", exif=exif)
    image.resize((9, 9)).save(odd / "tiny.jpg")
    found = _audit(folder)
    assert _oddities(found) == {
        "square/alpha.png": ["alpha"],
        "square/cmyk.jpg": ["CMYK"],
        "square/grey.jpg": ["grey"],
        "square/moving.gif": ["animated: the first frame counts", "palette"],
        "square/palette.png": ["palette"],
        "square/sixteen.png": ["16-bit"],
        "square/turned.jpg": ["rotated by EXIF: stored upright"],
        "square/wrong.png": ["named '.png' but JPEG"],
    }
    assert _problems(found) == {
        "square/moving.webp": "unsupported: animated WebP",
        "square/tiny.jpg": "too small: 9 x 9 pixels (limit: 16 a side)",
    }
    (turned,) = [f for f in found.usable if f.image.name == "square/turned.jpg"]
    assert (turned.width, turned.height) == (image.height, image.width)


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
    assert _problems(found) == {}
    assert "circle/image.bin" in found.group_of


def test_a_large_photograph_is_decoded_small_and_its_damage_still_seen(tmp_path):
    folder = fakes.write_folder(tmp_path, per_class=1)
    path = folder / "circle" / "large.jpg"
    large = fakes.draw("circle", 5).resize((1600, 900))
    large.save(path, quality=95)
    with Image.open(path) as opened:
        small = jpeg.decode_plain_jpeg(path.read_bytes(), opened)
    assert small.size == (200, 113)  # an eighth, rounded up
    hashes = [perceptual_hash.compute_hash(i) for i in (small, large.convert("L"))]
    assert (hashes[0] != hashes[1]).sum() <= 8
    path.write_bytes(path.read_bytes()[:-400])
    assert _problems(_audit(folder)) == {
        "circle/large.jpg": "damaged: cannot be decoded"
    }


@pytest.mark.slow
def test_processes_find_what_threads_find(tmp_path, monkeypatch):
    folder = fakes.write_folder(tmp_path, per_class=12)
    (folder / "circle" / "notes.jpg").write_text("no image")
    fakes.draw("circle", 20).save(folder / "circle" / "image.png")
    images = list_images(str(folder), seed=1, work_dir=folder).images

    def look_at_all():
        findings = inspect_images(images, min_side_px=16)
        # How to read an image comes back as another, equal function.
        return [
            dataclasses.replace(f, image=dataclasses.replace(f.image, read=bytes))
            for f in findings
        ]

    threads = look_at_all()
    monkeypatch.setattr(parallel, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(parallel, "_WORTH_PROCESSES_WITH_TENSORFLOW", 1)
    assert look_at_all() == threads
