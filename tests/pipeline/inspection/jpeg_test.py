"""Whatever the quick look accepts, the decoder that training uses decodes."""

import functools
import io

import fakes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import decoding
from pipeline.inspection import jpeg
from pipeline.sources import drawn_flowers

_ENCODINGS = (
    {},
    {"progressive": True},
    {"subsampling": 0},
    {"restart_marker_blocks": 3},
    {"progressive": True, "restart_marker_rows": 1},
    {"keep_rgb": True},
    {"optimize": True, "comment": b"a flower"},
)


@functools.cache
def _jpeg(number: int, mode: str = "RGB") -> bytes:
    picture = drawn_flowers.draw_image(
        drawn_flowers.CLASSES[number % 5], number
    ).convert(mode)
    return _encode(picture.resize((90, 70)), **_ENCODINGS[number % len(_ENCODINGS)])


def _encode(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def _accepts(image_bytes: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(image_bytes)) as opened:
            # Damage to a header can ask for any size; look.py judges that before.
            small = opened.width * opened.height < 1_000_000
            return small and bool(jpeg.decode_plain_jpeg(image_bytes, opened))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


# A header is a few hundred bytes of thousands, and an end two.
_PLACES = st.one_of(st.integers(2, 20_000), st.integers(2, 700), st.integers(-40, -1))
_DAMAGES = st.one_of(
    st.binary(max_size=30),
    st.integers(0, 255).map(lambda kind: bytes([0xFF, kind])),
    st.integers(0, 255).map(lambda value: bytes([value])),
)


def _damage(jpeg: bytes, place: int, new: bytes, removed: int, ending: int) -> bytes:
    """New bytes in place of others, and then the rest, nothing, or the last two."""
    at = place if place < 0 else min(place, len(jpeg))
    at = max(at % (len(jpeg) + 1), 2)
    rest = (jpeg[at + removed :], jpeg[at + removed :], b"", jpeg[-2:])[ending]
    return jpeg[:at] + new + rest


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None)
@given(
    number=st.integers(0, 13),
    mode=st.sampled_from(["RGB", "L"]),
    damages=st.lists(
        st.tuples(_PLACES, _DAMAGES, st.integers(0, 30), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    ),
)
def test_what_is_accepted_can_be_decoded(number, mode, damages):
    image_bytes = _jpeg(number, mode)
    for damage in damages:
        image_bytes = _damage(image_bytes, *damage)
    if _accepts(image_bytes):
        assert decoding.decode(tf.constant(image_bytes)).shape[2] == 3


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("number", range(len(_ENCODINGS)))
def test_sound_jpegs_need_no_tensorflow(number, mode):
    assert _accepts(_jpeg(number, mode))
    assert _accepts(_jpeg(number, mode) + b"what some cameras add")


@pytest.mark.parametrize(
    "damage",
    [
        lambda jpeg: jpeg[:-2],
        lambda jpeg: jpeg[:-2] + b"12345",
        lambda jpeg: jpeg[: len(jpeg) // 2],
        lambda jpeg: jpeg.replace(b"\xff\xc0", b"\xff\xc9"),  # arithmetic coding
        lambda jpeg: jpeg.replace(b"\xff\xc0", b"\xff\xc3"),  # lossless
        lambda jpeg: jpeg.replace(b"\x01\x22\x00\x02\x11", b"\x01\x32\x00\x02\x21"),
        lambda jpeg: jpeg[:-500] + b"\xff\xd3" + jpeg[-500:],  # a restart not due
        lambda jpeg: jpeg[:20] + b"\xff" + jpeg[20:],
    ],
)
def test_anything_odd_is_left_to_tensorflow(damage):
    damaged = damage(_jpeg(0))
    assert damaged != _jpeg(0)
    assert not _accepts(damaged)


def test_other_formats_and_cmyk_are_left_to_tensorflow():
    picture = fakes.draw("circle", 1)
    png = io.BytesIO()
    picture.save(png, "PNG")
    for image_bytes in (png.getvalue(), _encode(picture.convert("CMYK"))):
        assert not _accepts(image_bytes)
        with Image.open(io.BytesIO(image_bytes)) as opened:
            decoded = jpeg.decode_grey(image_bytes, opened)
        expected = decoding.decode(tf.constant(image_bytes)).numpy()
        np.testing.assert_array_equal(decoded, Image.fromarray(expected).convert("L"))


def test_damage_is_a_value_error():
    damaged = _jpeg(0)[:-300]
    with (
        Image.open(io.BytesIO(damaged)) as opened,
        pytest.raises(ValueError, match="cannot decode"),
    ):
        jpeg.decode_grey(damaged, opened)
