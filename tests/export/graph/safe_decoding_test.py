import numpy as np
import pytest
import tensorflow as tf
from fakes.image_files import BAD_IMAGES, IMAGES, photograph

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
