"""JPEG XL: the header by known bytes, and files that pillow-jxl-plugin writes."""

import functools
import io
import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.inspection import jpeg_xl, opening, reencoding
from pipeline.inspection.image_report import ImageReport, inspect_image
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.images import SourceImage

# Two frames of 40 x 30 pixels, by cjxl.
ANIMATED = bytes.fromhex(
    "ff0ae830c100028a4b02080208000024004b188b15820b4400000802040064004b188b15005419630000"
)


def _draw() -> Image.Image:
    """A smooth picture, which compression with loss hardly changes."""
    down, across = np.mgrid[0:48, 0:64]
    channels = (4 * across, 5 * down, 200 - 2 * across)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


PICTURE = _draw()
PIXELS = np.asarray(PICTURE).astype(int)


def _encode(image: Image.Image, **options) -> bytes:
    pytest.importorskip("pillow_jxl", reason="needs the extra heif")
    file = io.BytesIO()
    image.save(file, "JXL", **options)
    return file.getvalue()


def _store(image_bytes: bytes, **form) -> Image.Image:
    stored = reencoding.bytes_to_store(image_bytes, StoredForm(**form))
    return Image.open(io.BytesIO(stored))


def _inspect(image_bytes: bytes) -> ImageReport:
    image = SourceImage("a/1.jxl", "a", functools.partial(bytes, image_bytes))
    return inspect_image(image, min_side_px=16)


def _write_bits(*fields: tuple[int, int]) -> bytes:
    """A codestream of (value, number of bits), the lowest bit first."""
    value = at = 0
    for field, count in fields:
        value |= field << at
        at += count
    return b"\xff\x0a" + value.to_bytes(at // 8 + 1, "little")


@pytest.mark.parametrize(
    ("options", "stored_format", "limit"),
    [
        ({"quality": 95}, "JPEG", 12),
        ({"lossless": True}, "PNG", 0),
        ({"lossless": True, "use_container": True}, "PNG", 0),
        ({"quality": 95, "use_container": True}, "JPEG", 12),
    ],
)
def test_it_is_converted_when_it_is_stored(options, stored_format, limit):
    image_bytes = _encode(PICTURE, **options)
    with _store(image_bytes) as image:
        assert (image.format, image.mode) == (stored_format, "RGB")
        assert np.abs(np.asarray(image).astype(int) - PIXELS).mean() <= limit
    report = _inspect(image_bytes)
    stored_as = {"JPEG": "JPEG of quality 95", "PNG": "PNG"}[stored_format]
    assert (report.problem, report.oddities) == (None, (f"JXL: stored as {stored_as}",))
    assert (report.width, report.height) == PICTURE.size


def test_a_jpeg_inside_is_turned_by_exif_and_no_other_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = _encode(PICTURE, exif=exif.tobytes(), lossless=True)
    with _store(plain) as image:  # The codestream says which side is up.
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
    PICTURE.save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as photograph:
        inside = _encode(photograph, lossless_jpeg=True)
    with _store(inside) as image:
        assert (image.format, image.size) == ("JPEG", PICTURE.size[::-1])
    assert "rotated by EXIF: stored upright" in _inspect(inside).oddities


def test_transparency_and_16_bits_are_handled_as_in_other_formats():
    clear = PICTURE.convert("RGBA")
    clear.putalpha(0)
    with _store(_encode(clear, lossless=True), background="black") as image:
        assert image.getextrema() == ((0, 0),) * 3
    samples = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    grey = _encode(Image.fromarray(samples), lossless=True)
    with _store(grey, sample_bits=12) as image:
        np.testing.assert_array_equal(np.asarray(image), samples >> 4)


def test_what_cannot_be_used_is_named():
    whole = _encode(PICTURE, lossless=True)
    assert _inspect(whole[: len(whole) // 2]).problem == "damaged: cannot be decoded"
    assert _inspect(whole[:4]).problem == "damaged: cannot be decoded"
    assert _inspect(ANIMATED).problem == "unsupported: animated JPEG XL"
    with pytest.raises(ValueError, match="animated"):
        _store(ANIMATED)


def test_a_large_one_is_left_out_before_it_is_decoded():
    # Neither side a multiple of 8, no ratio, 30 bits for each; then all defaults.
    size = [(0, 1), (3, 2), (199_999, 30), (0, 3), (3, 2), (99_999, 30)]
    large = _write_bits(*size, (1, 1))
    assert jpeg_xl.read_header(large) == jpeg_xl.Header(100_000, 200_000, True, False)
    assert _inspect(large).problem == "too large: more than 100 million pixels"


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        # 16 rows, and as wide as 16:9 of them.
        ([(1, 1), (1, 5), (5, 3), (1, 1)], (28, 16, True, False)),
        # 512 rows of 9 bits, square; no extra field, 8 bits, no channel, no XYB.
        (
            [
                *((0, 1), (0, 2), (511, 9), (1, 3), (0, 1), (0, 1), (0, 1), (0, 2)),
                *((1, 1), (0, 2), (0, 1)),
            ],
            (512, 512, False, False),
        ),
        # An orientation, a preview of a multiple of 8 with ratio 1; 32-bit floats; one
        # channel with properties of its own, behind which nothing is read.
        (
            [
                *((1, 1), (3, 5), (0, 3), (1, 5), (0, 1), (1, 1), (5, 3), (0, 1)),
                *((1, 1), (1, 1), (0, 2), (1, 3), (0, 1)),
                *((1, 1), (0, 2), (7, 4), (1, 1), (1, 2), (0, 1)),
            ],
            (16, 32, None, False),
        ),
    ],
)
def test_a_header_is_read_bit_by_bit(fields, header):
    assert jpeg_xl.read_header(_write_bits(*fields)) == jpeg_xl.Header(*header)


def test_the_codestream_of_a_container_is_found():
    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    start = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    found = jpeg_xl.Header(40, 30, False, True)
    assert jpeg_xl.read_header(ANIMATED) == found
    assert jpeg_xl.read_header(start + box(b"jxlc", ANIMATED)) == found
    in_parts = start + box(b"Exif", bytes(9)) + box(b"jxlp", bytes(4) + ANIMATED)
    assert jpeg_xl.read_header(in_parts) == found
    for damaged in (start, start + box(b"jxlc", b"no"), b"\xff\x0a\x01", b"no image"):
        with pytest.raises(ValueError, match="JPEG XL"):
            jpeg_xl.read_header(damaged)


def test_without_its_reader_one_line_names_the_extra(monkeypatch):
    image_bytes = _encode(PICTURE)
    opening.load_jpeg_xl_reader.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    try:
        report = _inspect(image_bytes)
    finally:
        opening.load_jpeg_xl_reader.cache_clear()
    assert report.problem == ("JPEG XL needs the extra heif: pip install -e '.[heif]'")
