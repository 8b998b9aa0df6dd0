"""No file takes longer than a minute: the slowest files per pixel.

The processor time of a small file is scaled to the largest that the limits allow: 100
million pixels or 256 MiB. It is compared with bare decoding of a JPEG of 100 million
pixels, which takes 0.5 to 1.6 seconds. docs/decisions/0050-regular-files-in-time.md has
a table.
"""

import functools
import io
import struct
import time
import zlib

import numpy as np
import pytest
from fakes import colour_profiles
from PIL import Image

from pipeline.inspection import header_checks
from pipeline.inspection.formats import MAX_PIXELS
from pipeline.inspection.image_report import inspect_image
from pipeline.inspection.opening import open_image
from pipeline.sources.images import SourceImage
from pipeline.system.regular_file import MAX_FILE_BYTES

pytestmark = pytest.mark.slow

MAX_BYTES = {"JPEG2000": 1 << 26}

SIDE = 600
# Times bare decoding. Measured: 3 to 36.
LIMIT = 60


def _noise(channels: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, channels), np.uint8))


def _encode(image: Image.Image, image_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _encode_jpeg_xl() -> bytes:
    pytest.importorskip("pillow_jxl", reason="needs the extra heif")
    return _encode(_noise(3), "JXL", lossless=True, effort=1)


def _encode_heif() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(_noise(3)).save(file, quality=100)
    return file.getvalue()


def _repeat_scan(count: int) -> bytes:
    flat = Image.new("RGB", (SIDE // 16 * 16,) * 2)
    image_bytes = _encode(flat, "JPEG", progressive=True)
    end = image_bytes.rindex(b"\xff\xd9")
    scan = image_bytes[image_bytes.rindex(b"\xff\xda", 0, end) : end]
    return image_bytes[:end] + scan * count + b"\xff\xd9"


def _measure(image_bytes: bytes) -> float:
    """Returns the seconds that the processor needs for an image that can be used."""
    image = SourceImage("a/1", "a", functools.partial(bytes, image_bytes))
    start = time.process_time()
    report = inspect_image(image, min_side_px=16)
    seconds = time.process_time() - start
    assert report.problem is None, report.problem
    return seconds


@pytest.fixture(scope="module", autouse=True)
def _load_tensorflow():
    """Decodes an image, so that no test measures the start of TensorFlow."""
    _measure(_encode(Image.new("RGB", (20, 20)), "PNG"))


def _decode_bare(image_bytes: bytes) -> float:
    """Returns the least seconds of five that Pillow needs to decode an image."""
    seconds = []
    for _ in range(5):
        start = time.process_time()
        with Image.open(io.BytesIO(image_bytes)) as image:
            image.load()
        seconds.append(time.process_time() - start)
    return min(seconds)


PRO_PHOTO = colour_profiles.rgb_profile("ProPhoto")


@pytest.mark.parametrize(
    "make",
    [
        lambda: _encode(_noise(3), "JPEG", progressive=True, quality=95),
        lambda: _encode(_noise(3), "JPEG", icc_profile=PRO_PHOTO),
        lambda: _repeat_scan(90),
        lambda: _encode(_noise(4), "PNG", compress_level=1),
        lambda: _encode(_noise(4), "WEBP", lossless=True, method=0, quality=0),
        lambda: _encode(_noise(3), "TIFF", icc_profile=PRO_PHOTO),
        lambda: _encode(_noise(3), "JPEG2000"),
        lambda: _encode(_noise(4), "JPEG2000"),
        lambda: _encode(_noise(3), "AVIF", speed=10, quality=100),
        _encode_heif,
        _encode_jpeg_xl,
    ],
)
def test_the_largest_image_takes_a_bounded_number_of_bare_decodings(make):
    image_bytes = make()
    with open_image(image_bytes) as image:
        most_bytes = MAX_BYTES.get(image.format, MAX_FILE_BYTES)
    # No more pixels fit into a file, or none at all are allowed.
    most_pixels = min(MAX_PIXELS, SIDE**2 * most_bytes // len(image_bytes))
    bare = _decode_bare(_encode(_noise(3), "JPEG", quality=95))
    assert _measure(image_bytes) * most_pixels < LIMIT * bare * MAX_PIXELS


def test_a_jpeg_of_many_scans_is_not_decoded():
    image = SourceImage("a/1", "a", functools.partial(_repeat_scan, 100))
    report = inspect_image(image, min_side_px=16)
    assert report.problem == "damaged: more than 100 scans"


def _split_png(count: int) -> bytes:
    """A PNG whose compressed data are in `count` chunks of one byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    side = 200
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(side * (3 * side + 1)), 0)
    parts = [data[at : at + 1] for at in range(count - 1)] + [data[count - 1 :]]
    chunks = b"".join(chunk(b"IDAT", part) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("count", "problem"), [(1000, None), (1001, "damaged: more than 1,000 chunks")]
)
def test_a_png_of_many_chunks_is_not_decoded(count, problem, monkeypatch):
    monkeypatch.setattr(header_checks, "_MAX_PNG_CHUNKS", 1000)
    image = SourceImage("a/1", "a", functools.partial(_split_png, count))
    assert inspect_image(image, min_side_px=16).problem == problem
