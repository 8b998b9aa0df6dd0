"""What each kind of file becomes, seen by the decoder that training uses."""

import functools
import io
import struct
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from fakes import colour_profiles, image_files
from PIL import Image

from pipeline import decoding
from pipeline.inspection import opening, reencoding
from pipeline.inspection.image_report import inspect_image
from pipeline.inspection.inspect_images import inspect_images
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.images import SourceImage


def _draw() -> Image.Image:
    """A smooth picture, which compression with loss hardly changes."""
    down, across = np.mgrid[0:48, 0:64]
    channels = (4 * across, 5 * down, 200 - 2 * across)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


PICTURE = _draw()
PIXELS = np.asarray(PICTURE).astype(int)


def _encode(image: Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _store(image_bytes: bytes, **options) -> bytes:
    return reencoding.bytes_to_store(image_bytes, StoredForm(**options))


def _decode(image_bytes: bytes) -> np.ndarray:
    return decoding.decode(tf.constant(image_bytes)).numpy().astype(int)


def _inspect(image_bytes: bytes, name: str = "a/a"):
    read = functools.partial(bytes, image_bytes)
    image = SourceImage(name, "a", read)
    return inspect_image(image, min_side_px=16)


def _encode_heif(image: Image.Image, **options) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "image_bytes",
    [
        *(image_files.encode("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        image_files.encode("PNG"),
        image_files.encode("PNG", "P"),
        image_files.encode("PNG", "I;16"),
        image_files.encode("GIF", "P"),
        image_files.animation("GIF"),
        image_files.encode("BMP"),
        image_files.encode("WEBP"),
        _encode(
            PICTURE, "JPEG", icc_profile=colour_profiles.rgb_profile("nearly sRGB")
        ),
        _encode(PICTURE, "JPEG", icc_profile=b"no profile"),
        _encode(PICTURE.convert("RGBA"), "PNG"),
    ],
)
def test_ordinary_files_are_stored_as_they_are(image_bytes):
    assert _store(image_bytes) is image_bytes
    assert not _inspect(image_bytes).needs_reencoding


def test_of_a_jpeg_with_more_pictures_the_first_is_used_byte_for_byte():
    alone = _encode(PICTURE, "JPEG")
    both = _encode(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(90)])
    with Image.open(io.BytesIO(both)) as opened:
        assert opened.format == "MPO"
    assert _store(both) is both
    np.testing.assert_array_equal(_decode(both), _decode(alone))
    report = _inspect(both, "a/IMG.jpg")
    assert report.problem is None
    assert report.oddities == ("more pictures behind the first: the first counts",)
    assert report.perceptual_hash == _inspect(alone).perceptual_hash
    assert report.stored_bytes == len(both)


def test_of_a_turned_jpeg_with_more_pictures_the_first_is_stored_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    both = _encode(
        PICTURE, "MPO", save_all=True, append_images=[PICTURE], exif=exif.tobytes()
    )
    stored = _store(both)
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.size) == ("JPEG", PICTURE.size[::-1])
    turned = _decode(_encode(PICTURE.transpose(Image.Transpose.ROTATE_270), "JPEG"))
    assert np.abs(_decode(stored) - turned).mean() < 8


@pytest.mark.parametrize(
    ("make", "note", "stored_format", "limit"),
    [
        (lambda: _encode(PICTURE, "TIFF"), "TIFF: stored as PNG", "PNG", 0),
        (
            lambda: _encode(PICTURE, "TIFF", compression="jpeg", quality=95),
            "TIFF: stored as JPEG of quality 95",
            "JPEG",
            12,
        ),
        (lambda: _encode(PICTURE, "JPEG2000"), "JPEG2000: stored as PNG", "PNG", 0),
        (
            lambda: _encode(PICTURE, "JPEG2000", irreversible=True),
            "JPEG2000: stored as JPEG of quality 95",
            "JPEG",
            12,
        ),
        (
            lambda: _encode(PICTURE, "AVIF", quality=95),
            "AVIF: stored as JPEG of quality 95",
            "JPEG",
            15,
        ),
        (
            lambda: _encode_heif(PICTURE, quality=95),
            "HEIF: stored as JPEG of quality 95",
            "JPEG",
            15,
        ),
    ],
)
def test_formats_that_tensorflow_does_not_read_are_converted(
    make, note, stored_format, limit
):
    image_bytes = make()
    stored = _store(image_bytes)
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.mode) == (stored_format, "RGB")
    assert np.abs(_decode(stored) - PIXELS).mean() <= limit
    report = _inspect(image_bytes)
    assert (report.problem, report.oddities) == (None, (note,))
    assert (report.width, report.height) == PICTURE.size
    assert report.stored_bytes == len(stored)


@pytest.mark.parametrize("image_format", ["TIFF", "AVIF", "HEIF", "WEBP", "PNG"])
def test_each_format_is_turned_once(image_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    if image_format == "HEIF":
        image_bytes = _encode_heif(PICTURE, exif=exif.tobytes())
    else:
        image_bytes = _encode(PICTURE, image_format, exif=exif)
    turned = PICTURE.transpose(Image.Transpose.ROTATE_270)
    decoded = _decode(_store(image_bytes))
    assert decoded.shape[:2] == turned.size[::-1]
    assert np.abs(decoded - np.asarray(turned).astype(int)).mean() < 20


def test_without_pillow_heif_one_line_names_the_extra(monkeypatch):
    image_bytes = _encode_heif(PICTURE)
    opening.load_heif_reader.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    try:
        report = _inspect(image_bytes)
    finally:
        opening.load_heif_reader.cache_clear()
    assert report.problem == "HEIF needs the extra heif: pip install -e '.[heif]'"


def _cut_out(mode: str = "RGBA") -> Image.Image:
    """The left half is transparent; its hidden colours are random."""
    rng = np.random.default_rng(0)
    pixels = np.asarray(PICTURE.convert("RGBA")).copy()
    half = pixels.shape[1] // 2
    pixels[:, :half, :3] = rng.integers(0, 256, (pixels.shape[0], half, 3))
    pixels[:, :half, 3] = 0
    return Image.fromarray(pixels).convert(mode)


def _cut_out_palette() -> Image.Image:
    image = PICTURE.quantize(31)
    image.putpalette([*image.getpalette()[: 3 * 31], 255, 0, 255])
    image.paste(31, (0, 0, image.width // 2, image.height))
    return image


@pytest.mark.parametrize(
    ("make", "stored_format"),
    [
        (lambda: _encode(_cut_out(), "PNG"), "PNG"),
        (lambda: _encode(_cut_out("LA"), "PNG"), "PNG"),
        (lambda: _encode(_cut_out(), "WEBP", lossless=True, exact=True), "PNG"),
        (lambda: _encode(_cut_out(), "WEBP", quality=90, exact=True), "JPEG"),
        (lambda: _encode(_cut_out_palette(), "PNG", transparency=31), "PNG"),
        (lambda: _encode(_cut_out_palette(), "GIF", transparency=31), "PNG"),
        (lambda: _encode(_cut_out(), "TIFF"), "PNG"),
        (lambda: _encode(_cut_out(), "AVIF"), "JPEG"),
    ],
)
def test_what_is_transparent_is_stored_white(make, stored_format):
    image_bytes = make()
    stored = _store(image_bytes)
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.mode) == (stored_format, "RGB")
    pixels = _decode(stored)
    half = PIXELS.shape[1] // 2
    # A JPEG blurs the border.
    assert pixels[:, : half - 8].min() >= (255 if stored_format == "PNG" else 240)
    assert pixels[:, half:].mean() < 200
    report = _inspect(image_bytes)
    assert report.problem is None
    assert "transparent: stored on white" in report.oddities


def test_half_transparent_pixels_are_mixed_with_white():
    grey = Image.new("RGBA", (20, 20), (100, 0, 200, 51))
    expected = [round(0.2 * value + 0.8 * 255) for value in (100, 0, 200)]
    pixels = _decode(_store(_encode(grey, "PNG")))
    assert np.abs(pixels - expected).max() <= 1


def test_a_webp_with_an_opaque_alpha_channel_is_used():
    # Pillow writes no such channel; the chunk of transparency 255 has one value.
    plain = _encode(PICTURE, "WEBP", quality=90)
    width, height = PICTURE.size
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    alpha = b"\0" + b"\xff" * (width * height)
    chunks = b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
        for name, data in ((b"VP8X", b"\x10\0\0\0" + sizes), (b"ALPH", alpha))
    )
    body = b"WEBP" + chunks + plain[12:]
    image_bytes = b"RIFF" + struct.pack("<I", len(body)) + body
    with pytest.raises(tf.errors.InvalidArgumentError):
        _decode(image_bytes)
    assert np.abs(_decode(_store(image_bytes)) - _decode(plain)).mean() < 5
    assert _inspect(image_bytes).problem is None


@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "ProPhoto"])
def test_colours_are_converted_where_the_profile_is_visible(name):
    profile = colour_profiles.rgb_profile(name)
    vivid = Image.new("RGB", (64, 48), (60, 200, 90))
    dull = Image.new("RGB", (64, 48), (120, 121, 122))
    stored = _store(_encode(vivid, "PNG", icc_profile=profile))
    red, green, _ = _decode(stored)[20, 20]
    # In a wide-gamut profile, the same numbers are a more saturated green.
    assert red < 40
    assert green > 190
    assert np.abs(_decode(stored) - [60, 200, 90]).mean() > 8
    report = _inspect(_encode(vivid, "JPEG", icc_profile=profile))
    assert report.oddities == (f"{name}: colours converted to sRGB",)
    grey = _encode(dull, "JPEG", icc_profile=profile)
    if name != "ProPhoto":  # Its curve is another one; greys differ too.
        assert _store(grey) is grey


def test_a_cmyk_photograph_is_converted_by_its_profile():
    inks = Image.new("CMYK", (64, 48), (255, 0, 0, 0))
    with_profile = _encode(inks, "JPEG", icc_profile=colour_profiles.cmyk_profile())
    red, green, blue = _decode(_store(with_profile))[20, 20]
    # Printed cyan, L*a*b* 55, -37, -50, is not the (0, 255, 255) of a screen.
    assert red < 30
    assert 120 < green < 170
    assert 190 < blue < 240
    without = _encode(inks, "JPEG")
    assert _store(without) is without
    assert np.abs(_decode(without)[20, 20] - [0, 255, 255]).max() < 5


def test_a_grey_profile_counts_too():
    grey = Image.new("L", (64, 48), 128)
    linear = _encode(grey, "PNG", icc_profile=colour_profiles.grey_profile(1.0))
    assert np.abs(_decode(_store(linear)) - 188).max() <= 2
    usual = _encode(grey, "PNG", icc_profile=colour_profiles.grey_profile(2.2))
    assert _store(usual) is usual


def _png_16(samples: np.ndarray) -> bytes:
    """A PNG of 16 bits in RGB, which Pillow does not write."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = b""
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        chunks += struct.pack(">I", len(data)) + kind + data + checksum
    return b"\x89PNG\r\n\x1a\n" + chunks


def _source(files: dict[str, bytes]) -> list[SourceImage]:
    return [
        SourceImage(name, "a", functools.partial(bytes, content))
        for name, content in sorted(files.items())
    ]


def test_images_of_12_bits_are_stretched_by_what_the_data_set_uses():
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 4096, (40, 40)).astype(np.uint16)
    bright[0, 0] = 4095
    dark = bright // 8  # 9 bits; it stays dark.
    colours = np.stack([bright, dark, bright // 2], axis=-1)
    files = {
        "bright.png": _encode(Image.fromarray(bright), "PNG"),
        "dark.png": _encode(Image.fromarray(dark), "PNG"),
        "colours.png": _png_16(colours),
        "scan.tif": _encode(Image.fromarray(bright), "TIFF"),
        "plain.png": _encode(PICTURE, "PNG"),
    }
    reports = inspect_images(_source(files), min_side_px=16)
    bits_of = {report.image.name: report.sample_bits for report in reports}
    assert bits_of == {**dict.fromkeys(files, 12), "plain.png": 0}
    assert [report.problem for report in reports] == [None] * 5
    note = "12 of 16 bits used: stored with the upper 8 of them"
    assert [note in report.oddities for report in reports] == [
        report.image.name != "plain.png" for report in reports
    ]
    stored = {
        report.image.name: _decode(
            _store(report.image.read(), sample_bits=report.sample_bits or None)
        )
        for report in reports
    }
    np.testing.assert_array_equal(stored["bright.png"][..., 0], bright >> 4)
    np.testing.assert_array_equal(stored["scan.tif"][..., 0], bright >> 4)
    np.testing.assert_array_equal(stored["dark.png"][..., 0], dark >> 4)
    np.testing.assert_array_equal(stored["colours.png"], colours >> 4)


def test_one_image_of_16_bits_leaves_all_as_they_are():
    dark = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    full = dark * 40
    files = {
        "dark.png": _encode(Image.fromarray(dark), "PNG"),
        "full.png": _encode(Image.fromarray(full), "PNG"),
    }
    reports = inspect_images(_source(files), min_side_px=16)
    assert [report.sample_bits for report in reports] == [16, 16]
    assert not any(report.needs_reencoding for report in reports)
    given = inspect_images(
        _source(files), min_side_px=16, form=StoredForm(sample_bits=11)
    )
    assert all(report.needs_reencoding for report in given)
    assert [report.sample_bits for report in given] == [11, 11]
    np.testing.assert_array_equal(
        _decode(_store(files["full.png"], sample_bits=11))[..., 0],
        np.minimum(full >> 3, 255),
    )


@pytest.mark.parametrize(
    ("image_bytes", "problem"),
    [
        (
            _encode(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF"),
            "unsupported: floating-point values; store it with 8 or 16 bits a channel",
        ),
        (
            _encode(Image.new("LAB", (40, 40)), "TIFF"),
            "unsupported: L*a*b* colours; store it with 8 or 16 bits a channel",
        ),
        (
            _encode(Image.fromarray(np.full((40, 40), 1 << 20, np.int32)), "TIFF"),
            "damaged: cannot be decoded",
        ),
        (_encode(PICTURE, "TIFF")[:-500], "damaged: cannot be decoded"),
        (_encode(PICTURE, "AVIF")[:-100], "damaged: cannot be decoded"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not an image"),
        (
            _encode(PICTURE, "JPEG", progressive=True)[:-2]
            + (b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 600 + b"\xff\xd9"),
            "damaged: more than 100 scans",
        ),
        (image_files.animation("WEBP"), "unsupported: animated WebP"),
        (b"\n<!DOCTYPE HTML><title>404</title>", "not an image, but a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "not an image, but a pointer of Git LFS: run git lfs pull",
        ),
        (b"%PDF-1.4", "not an image, but a PDF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "not an image, but a film"),
    ],
)
def test_what_cannot_be_used_is_named(image_bytes, problem):
    pytest.importorskip("pillow_heif", reason="needs the extra heif")
    assert _inspect(image_bytes).problem == problem


def test_pages_of_a_tiff_are_not_counted():
    image_bytes = _encode(PICTURE, "TIFF", save_all=True, append_images=[PICTURE])
    report = _inspect(image_bytes, "a/scan.tiff")
    assert report.oddities == (
        "several pages: the first counts",
        "TIFF: stored as PNG",
    )


def test_pairs_of_bytes_behind_a_jpeg_are_no_scans():
    """The film of a phone behind its photograph has such pairs by chance."""
    image_bytes = _encode(PICTURE, "JPEG", progressive=True)
    report = _inspect(image_bytes + b"\0\xff\xda\0" * 1000)
    assert report.problem is None
