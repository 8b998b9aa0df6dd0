import io

import fakes
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipeline import decoding


def _encode(pixels: np.ndarray, image_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def test_the_contract_of_shape_dtype_and_range():
    image_bytes = _encode(np.asarray(fakes.draw("circle", 1)), "JPEG")
    image = decoding.decode_and_resize(tf.constant(image_bytes), 32)
    assert image.shape == (32, 32, 3)
    assert image.dtype == tf.uint8
    assert 0 <= image.numpy().min() < 60
    assert 120 < image.numpy().max() <= 255


def test_values_are_those_of_a_bilinear_resize_with_half_pixel_centres():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[:, 1] = 100
    image = decoding.decode_and_resize(tf.constant(_encode(pixels)), 4).numpy()
    np.testing.assert_array_equal(image[0, :, 0], [0, 25, 75, 100])
    np.testing.assert_array_equal(image[:, 2, 1], 75)


@pytest.mark.parametrize("size", [(90, 70), (300, 200)], ids=["plain", "antialiased"])
def test_values_are_rounded_to_the_nearest(size):
    pixels = tf.constant(_photograph(*size))
    exact = tf.image.resize(pixels, (32, 32), antialias=size[0] >= 96)
    found = decoding.resize(pixels, 32).numpy().astype(float)
    assert 0.4 < np.abs(found - exact).max() <= 0.5001


@pytest.mark.parametrize("value", [0, 255])
def test_the_range_holds_at_its_ends(value):
    # The anti-aliased resize overshoots by a rounding error.
    pixels = np.full((301, 299, 3), value, np.uint8)
    assert np.unique(decoding.resize(tf.constant(pixels), 32)) == [value]


def test_channels_are_red_green_blue():
    pixels = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    image = decoding.decode_and_resize(tf.constant(_encode(pixels)), 8)
    np.testing.assert_array_equal(image[3, 3], [200, 100, 50])


def test_a_large_image_is_antialiased():
    # One-pixel stripes: taking every eighth pixel would see one colour alone.
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:, ::2] = 255
    image = decoding.decode_and_resize(tf.constant(_encode(pixels)), 32).numpy()
    assert abs(image[4:-4, 4:-4].mean() - 127.5) < 2
    assert image[4:-4, 4:-4].std() < 5


def _photograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes with some noise, as a camera makes them."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(50, 200, (height // 32 + 1, width // 32 + 1, 3))
    smooth = Image.fromarray(coarse.astype(np.uint8)).resize((width, height))
    noisy = np.asarray(smooth, np.float32) + rng.normal(0, 4, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "ratio"),
    [
        (63, 500, 1),  # one side is not twice 32
        (64, 64, 2),
        (100, 90, 2),
        (128, 200, 4),
        (255, 300, 4),
        (256, 300, 8),
        (1000, 1200, 8),
    ],
)
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(height, width, ratio):
    image_bytes = tf.constant(_encode(_photograph(height, width), "JPEG"))
    reduced = tf.io.decode_jpeg(image_bytes, channels=3, ratio=ratio)
    assert reduced.shape == (-(-height // ratio), -(-width // ratio), 3)
    found = decoding.decode_and_resize(image_bytes, 32)
    np.testing.assert_array_equal(found, decoding.resize(reduced, 32))
    whole = tf.io.decode_jpeg(image_bytes, channels=3)
    exact = tf.image.resize(whole, (32, 32), antialias=True)
    found = tf.cast(found, tf.float32)
    difference = np.abs(found - exact)
    assert difference.mean() < 3
    assert np.abs(np.mean(found - exact)) < 1  # the smaller transforms round up
    # In its place: a pixel further on would be another picture.
    for axis in (0, 1):
        moved = np.abs(found - np.roll(exact, 1, axis))
        assert difference.mean() < 0.3 * moved.mean()


@pytest.mark.parametrize("image_format", ["PNG", "BMP"])
def test_other_formats_are_decoded_whole(image_format):
    pixels = _photograph(300, 200)
    found = decoding.decode_and_resize(tf.constant(_encode(pixels, image_format)), 32)
    np.testing.assert_array_equal(found, decoding.resize(tf.constant(pixels), 32))


@pytest.mark.parametrize("image_size", [16, 64])
def test_eager_and_dataset_map_agree_to_the_bit(image_size):
    all_bytes = [
        _encode(np.asarray(fakes.draw("stripe", i)), image_format)
        for i, image_format in enumerate(["JPEG", "PNG", "BMP", "GIF", "WEBP"])
    ]
    eager = [
        decoding.decode_and_resize(tf.constant(b), image_size).numpy()
        for b in all_bytes
    ]
    dataset = tf.data.Dataset.from_tensor_slices(all_bytes).map(
        lambda b: decoding.decode_and_resize(b, image_size), num_parallel_calls=2
    )
    shape = [image_size, image_size, 3]
    assert dataset.element_spec == tf.TensorSpec(shape, tf.uint8)
    np.testing.assert_array_equal(np.stack(eager), np.stack(list(dataset)))


@pytest.mark.parametrize("image_bytes", [b"", b"no image", b"\xff\xd8\xff\xe0 short"])
def test_what_is_no_image_raises(image_bytes):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoding.decode_and_resize(tf.constant(image_bytes), 32)
