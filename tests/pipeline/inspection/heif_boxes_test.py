"""Lossless HEIF and AVIF become PNG: by known bytes, and by files of pillow-heif."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.inspection import heif_boxes, reencoding
from pipeline.inspection.opening import open_image
from pipeline.inspection.reencoding import StoredForm

DOWN, ACROSS = np.mgrid[0:24, 0:32]
PIXELS = np.stack((8 * ACROSS, 10 * DOWN, 200 - 5 * ACROSS), -1).astype(np.uint8)

# These pixels, by avifenc --lossless.
LOSSLESS_AVIF = bytes.fromhex(
    "00000020667479706176696600000000617669666d6966316d6961664d413141000000f26d65"
    "7461000000000000002868646c72000000000000000070696374000000000000000000000000"
    "6c696261766966000000000e7069746d0000000000010000001e696c6f630000000044000001"
    "0001000000010000011a0000009e0000002869696e660000000000010000001a696e66650200"
    "00000001000061763031436f6c6f72000000006a697072700000004b6970636f000000146973"
    "7065000000000000002000000018000000107069786900000000030808080000000c61763143"
    "8120000000000013636f6c726e636c780001000d0000800000001769706d6100000000000000"
    "0100010401028304000000a66d64617412000a0838113f761010d002328f0110000086f6f0c6"
    "3cdf5e863e1e3ee9c2779c83ad3f64140579d2892f41737f30a524c32fd2c0b25c496b2c4808"
    "8c0da650519f36982621a44645c1c5aecfe9cc0c265e9c81d1fb9f7f294f7ad0757f1b326356"
    "c9086a5a4929ab24fd633fff9dc9cafc83ef3c946916f416095687a70e69d3901c2430d750a2"
    "1a81aa71805ec986eed2c0d0213bfa127e1fe56baaa0"
)


def _box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _file(*properties: bytes) -> bytes:
    properties_box = _box(b"iprp", _box(b"ipco", *properties))
    return _box(b"ftyp", b"mif1") + _box(b"meta", bytes(4), properties_box)


def _colours(matrix: int) -> bytes:
    return _box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, matrix, 128))


def _av1(flags: int) -> bytes:
    return _box(b"av1C", bytes([0x81, 0, flags, 0]))


def _hevc(chroma_format: int) -> bytes:
    return _box(b"hvcC", bytes(16), bytes([0xFC | chroma_format]), bytes(6))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ((_colours(0), _av1(0)), True),
        ((_av1(0b0110_0000), _colours(0)), True),  # 12 bits.
        ((_colours(16), _av1(0)), True),
        ((_colours(0), _hevc(3)), True),
        ((_colours(6), _av1(0)), False),
        ((_colours(0), _av1(0b1100)), False),  # 4:2:0
        ((_colours(0), _av1(0b1000)), False),  # 4:2:2
        ((_colours(0), _av1(0b1_1100)), False),  # Grey.
        ((_colours(0), _hevc(1)), False),
        ((_colours(9), _hevc(3)), False),
        ((_box(b"colr", b"prof", bytes(30)), _av1(0)), False),
        ((_av1(0),), False),
        ((_colours(0),), False),
        ((_box(b"colr", b"nclx"), _box(b"av1C"), _box(b"hvcC")), False),
    ],
)
def test_it_is_told_by_colours_that_come_back(properties, expected):
    assert heif_boxes.may_be_lossless(_file(*properties)) is expected


@pytest.mark.parametrize(
    "image_bytes",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05meta" * 9,
        b"\0\0\0\x01meta",
        b"\0\0\0\x01meta" + bytes(8),
        LOSSLESS_AVIF[:150],
        *(LOSSLESS_AVIF[:at] + b"\0\0\0\0" + LOSSLESS_AVIF[at:] for at in (32, 36)),
    ],
)
def test_damaged_boxes_end_the_search(image_bytes):
    assert not heif_boxes.may_be_lossless(image_bytes)


def test_a_box_may_have_a_long_size_or_reach_to_the_end():
    whole = _file(_colours(0), _av1(0))
    at = whole.index(b"meta") - 4
    meta = whole[at + 8 :]
    to_end = whole[:at] + b"\0\0\0\0meta" + meta
    long_size = (
        whole[:at] + b"\0\0\0\x01meta" + struct.pack(">Q", 16 + len(meta)) + meta
    )
    assert heif_boxes.may_be_lossless(to_end)
    assert heif_boxes.may_be_lossless(long_size)


def _store(image_bytes: bytes) -> Image.Image:
    return Image.open(io.BytesIO(reencoding.bytes_to_store(image_bytes, StoredForm())))


def test_a_lossless_avif_keeps_its_pixels():
    with _store(LOSSLESS_AVIF) as stored, open_image(LOSSLESS_AVIF) as opened:
        assert stored.format == "PNG"
        np.testing.assert_array_equal(np.asarray(stored), PIXELS)
        notes = reencoding.find_changes(LOSSLESS_AVIF, opened, StoredForm()).notes
    assert notes == ("AVIF: stored as PNG",)


@pytest.mark.parametrize("options", [{}, {"quality": 100, "subsampling": "4:4:4"}])
def test_an_avif_with_loss_becomes_jpeg(options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "AVIF", **options)
    with _store(file.getvalue()) as stored:
        assert stored.format == "JPEG"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quality": -1, "chroma": 444, "matrix_coefficients": 0}, "PNG"),
        ({"quality": -1}, "JPEG"),  # The colours of four pixels become one.
        ({"quality": 90, "chroma": 444}, "JPEG"),
    ],
)
def test_a_heif_becomes_png_if_its_colours_come_back(options, expected):
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PIXELS)).save(file, **options)
    with _store(file.getvalue()) as stored:
        assert stored.format == expected
        if expected == "PNG":
            np.testing.assert_array_equal(np.asarray(stored), PIXELS)
