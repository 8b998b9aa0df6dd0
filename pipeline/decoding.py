"""decode_and_resize(): the one function that training, evaluation and serving share."""

import functools
from collections.abc import Callable

import tensorflow as tf

_JPEG = b"\xff\xd8\xff"
_JPEG_RATIOS = (1, 2, 4, 8)

# From this shrink factor on, a plain bilinear resize sees less than half of the pixels
# and aliases.
_ANTIALIAS_FROM_SHRINK = 3


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """string [] (JPEG, PNG, GIF, BMP or WebP) -> uint8 [H, W, 3], RGB.

    Of an animation the first frame. EXIF orientation is not applied.

    Raises:
      tf.errors.InvalidArgumentError: not an image, damaged, or another format.
    """
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def decode_and_resize(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """string [] -> uint8 [image_size, image_size, 3], RGB.

    A JPEG of at least twice the size is decoded at a half, quarter or eighth of it,
    whichever is the smallest that leaves both sides at least image_size: the inverse
    transform of its blocks then averages the pixels that a resize would, in a fraction
    of the time (T.81, and libjpeg's scale_denom).

    Raises:
      tf.errors.InvalidArgumentError: see decode().
    """
    return _trace_decoding(image_size)(image_bytes)


@functools.cache
def _trace_decoding(image_size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Traces the decoding once: pipelines and signatures contain calls of one graph."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decode_and_resize(image_bytes: tf.Tensor) -> tf.Tensor:
        is_jpeg = tf.strings.substr(image_bytes, 0, len(_JPEG)) == _JPEG
        image = tf.cond(
            is_jpeg,
            lambda: _decode_jpeg(image_bytes, image_size),
            lambda: decode(image_bytes),
        )
        return resize(tf.ensure_shape(image, [None, None, 3]), image_size)

    return decode_and_resize


def _decode_jpeg(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decodes a JPEG at the smallest size that decode_and_resize() allows."""
    shorter_side = tf.reduce_min(tf.io.extract_jpeg_shape(image_bytes)[:2])
    halvings = sum(
        tf.cast(shorter_side >= ratio * image_size, tf.int32)
        for ratio in _JPEG_RATIOS[1:]
    )
    branches = [
        functools.partial(tf.io.decode_jpeg, image_bytes, channels=3, ratio=ratio)
        for ratio in _JPEG_RATIOS
    ]
    return tf.switch_case(halvings, branches)


def resize(images: tf.Tensor, image_size: int) -> tf.Tensor:
    """uint8 [..., H, W, 3] -> uint8 [..., image_size, image_size, 3].

    The whole image is resized bilinearly and its aspect ratio given up, so that nothing
    of the subject is cut off. Photographs at least three times the target on a side
    are anti-aliased; smaller ones are not, where it would cost more than decoding and
    resizing together. The result is rounded: a batch of bytes is a quarter of the size
    that crosses to an accelerator, and an image that is kept decoded is the same.
    """
    size = (image_size, image_size)
    longer_side = tf.reduce_max(tf.shape(images)[-3:-1])
    resized = tf.cond(
        longer_side >= _ANTIALIAS_FROM_SHRINK * image_size,
        lambda: tf.image.resize(images, size, antialias=True),
        lambda: tf.image.resize(images, size),
    )
    # The anti-aliased one overshoots [0, 255] by a rounding error, far less than 0.5.
    rounded = tf.cast(tf.round(resized), tf.uint8)
    return tf.ensure_shape(rounded, [*images.shape[:-3], *size, 3])
