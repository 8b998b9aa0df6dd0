import numpy as np
import pytest
import tensorflow as tf
from fakes.image_files import BAD_IMAGES, IMAGES, encode, photograph, png_header

from export.graph import safe_decoding
from export.graph.safe_decoding import decode_rows
from pipeline import decoding

SIDE = 32


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def decode_contained(encoded):
    return decode_rows(encoded, SIDE, contained=True)


@pytest.mark.parametrize("name", IMAGES)
def test_serving_sees_the_pixels_that_training_sees(name):
    image_bytes = tf.constant(IMAGES[name])
    rows, ok = decode_contained(image_bytes[tf.newaxis])
    assert ok.numpy().tolist() == [True]
    wanted = decoding.decode_and_resize(image_bytes, SIDE)
    np.testing.assert_array_equal(rows[0], wanted)


def test_a_bad_image_becomes_a_row_of_zeros():
    encoded = [photograph(0), *BAD_IMAGES.values(), photograph(1)]
    rows, decode_ok = decode_contained(tf.constant(encoded))
    assert decode_ok.numpy().tolist() == [True, *[False] * len(BAD_IMAGES), True]
    for row, image_bytes in ((0, encoded[0]), (-1, encoded[-1])):
        expected = decoding.decode_and_resize(tf.constant(image_bytes), SIDE)
        np.testing.assert_array_equal(rows[row], expected)
    np.testing.assert_array_equal(rows[1:-1], 0.0)


@pytest.mark.parametrize("contained", [True, False])
def test_an_empty_batch_has_one_row_of_zeros(contained):
    rows, decode_ok = decode_rows(tf.constant([], tf.string), SIDE, contained=contained)
    assert decode_ok.shape == (0,)
    np.testing.assert_array_equal(rows, np.zeros([1, SIDE, SIDE, 3]))


def _make_decoder(monkeypatch, **options):
    """A graph where an image may have 1300 pixels, and a batch 5 times as many."""
    monkeypatch.setattr(safe_decoding, "MAX_PIXELS", 1300)
    monkeypatch.setattr(safe_decoding, "MAX_REQUEST_PIXELS", 5 * 1300)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(encoded):
        return decode_rows(encoded, SIDE, **options)

    return decode


def _make_square(side):
    return encode("PNG", size=(side, side))


def test_the_largest_images_of_a_batch_are_bad_if_they_are_too_many(monkeypatch):
    decode = _make_decoder(monkeypatch, contained=True)
    for sides, expected in (
        ([36, 36, 36, 36, 36], [True] * 5),  # 5 * 1296
        ([36, 36, 36, 36, 36, 10], [True, True, True, True, False, True]),
        ([36, 36, 36, 36, 36, 4], [True] * 6),
        ([36, 30, 36, 30, 36, 30, 30], [True, True, True, True, False, True, True]),
        ([20] * 16, [True] * 16),
        ([20] * 17, [True] * 16 + [False]),
        ([60, 60, 60, 36, 36, 36, 36, 36], [False] * 3 + [True] * 5),
    ):
        encoded = [_make_square(side) for side in sides]
        rows, decode_ok = decode(tf.constant(encoded))
        assert decode_ok.numpy().tolist() == expected
        for row, image_bytes, ok in zip(rows, encoded, expected, strict=True):
            wanted = decoding.decode_and_resize(tf.constant(image_bytes), SIDE)
            np.testing.assert_array_equal(row, wanted.numpy() * ok)


def test_images_of_absurd_sides_do_not_hinder_others():
    good = [_make_square(20)] * 9  # So many that the pixels are counted.
    # Their product, and the sum of two such products, overflow.
    absurd = png_header(2_700_000_000, 4_100_000_000)
    _, decode_ok = decode_rows(
        tf.constant([absurd, absurd, *good]), SIDE, contained=True
    )
    assert decode_ok.numpy().tolist() == [False, False, *[True] * 9]


def test_a_strict_batch_of_too_many_pixels_is_an_error(monkeypatch):
    decode = _make_decoder(monkeypatch, contained=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="6500 together"):
        decode(tf.constant([_make_square(36)] * 6))


def test_an_element_without_an_image_does_not_hinder_the_count(monkeypatch):
    def find(element):
        is_good = tf.strings.substr(element, 0, 1) == b"+"
        with tf.control_dependencies([tf.debugging.Assert(is_good, [element])]):
            return tf.strings.substr(element, 1, tf.strings.length(element))

    decode = _make_decoder(monkeypatch, contained=True, find_image_bytes=find)
    _, decode_ok = decode(tf.constant([b"-", *[b"+" + _make_square(36)] * 6]))
    assert decode_ok.numpy().tolist() == [False, *[True] * 5, False]
