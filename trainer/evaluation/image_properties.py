"""Measures what a person can see of a photograph: brightness, sharpness, colour."""

import dataclasses
import io
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image

from pipeline import decoding
from pipeline.loading.prepared_data import Records
from pipeline.system import parallel

# Each colour begins at its hue, in degrees, and ends where the next one begins.
COLOURS = {"red": -30, "yellow": 30, "green": 75, "blue": 165, "purple": 265}
# Below this saturation a photograph counts as grey.
_MIN_SATURATION = 0.1
GREY = "grey"

# Colours need no fine detail: a sixteenth of the pixels takes a sixteenth of the time.
_COLOUR_STRIDE = 4

# Weights of red, green and blue in the luminance (ITU-R BT.601).
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class ImageProperties:
    """Properties of N images, in stored order.

    brightness: float [N], mean luminance, range [0, 255].
    sharpness: float [N], variance of the Laplacian of the luminance, at the size that
      the network sees (Pech-Pacheco et al., 2000).
    saturation: float [N], range [0, 1].
    colour: str [N], the colour with the largest share: a key of COLOURS, or GREY.
    width, height: int [N], of the original, px.
    """

    brightness: np.ndarray
    sharpness: np.ndarray
    saturation: np.ndarray
    colour: np.ndarray
    width: np.ndarray
    height: np.ndarray


def measure_images(records: Records, image_size: int) -> ImageProperties:
    """Reads every image of a split once, decodes it and measures it.

    image_size: side in pixels that the network sees.
    """

    @tf.autograph.experimental.do_not_convert
    def measure(example):
        image_bytes = example["image_bytes"]
        image = decoding.decode_and_resize(image_bytes, image_size)
        return image_bytes, *measure_pixels(tf.cast(image, tf.float32))

    measured = records.dataset.map(measure, num_parallel_calls=parallel.count_cores())
    sizes, rows = [], []
    with warnings.catch_warnings():
        # Pillow warns of large sizes; the preparation has limited them already.
        warnings.simplefilter("ignore")
        for image_bytes, *row in measured.as_numpy_iterator():
            rows.append(row)
            with Image.open(io.BytesIO(image_bytes)) as image:  # Reads its header.
                sizes.append(image.size)
    brightness, sharpness, saturation, colour = (
        np.array(part) for part in zip(*rows, strict=True)
    )
    width, height = np.array(sizes).T
    names = np.array([*COLOURS, GREY])
    return ImageProperties(
        brightness, sharpness, saturation, names[colour], width, height
    )


def measure_pixels(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Measures one image.

    Args:
      image: float32 [S, S, 3], range [0, 255].

    Returns:
      brightness, sharpness and saturation, each float32 [], and the index of the colour
      in (*COLOURS, GREY), int32 []; see ImageProperties.
    """
    luminance = tf.tensordot(image, tf.constant(_LUMINANCE), 1)
    laplacian = (
        luminance[:-2, 1:-1]
        + luminance[2:, 1:-1]
        + luminance[1:-1, :-2]
        + luminance[1:-1, 2:]
        - 4.0 * luminance[1:-1, 1:-1]
    )
    pixels = image[::_COLOUR_STRIDE, ::_COLOUR_STRIDE]
    largest = tf.reduce_max(pixels, axis=-1)
    chroma = largest - tf.reduce_min(pixels, axis=-1)
    # Not the mean over the pixels: nearly black ones have a random saturation.
    saturation = tf.math.divide_no_nan(tf.reduce_sum(chroma), tf.reduce_sum(largest))
    hue = 360.0 * tf.image.rgb_to_hsv(pixels / 255.0)[..., 0]
    starts = tf.constant(list(COLOURS.values()), tf.float32)
    turned = (hue - starts[0]) % 360.0
    index = (
        tf.searchsorted(starts - starts[0], tf.reshape(turned, [-1]), side="right") - 1
    )
    shares = tf.math.unsorted_segment_sum(tf.reshape(chroma, [-1]), index, len(COLOURS))
    colour = tf.where(
        saturation < _MIN_SATURATION,
        len(COLOURS),
        tf.argmax(shares, output_type=tf.int32),
    )
    return (
        tf.reduce_mean(luminance),
        tf.math.reduce_variance(laplacian),
        saturation,
        colour,
    )
