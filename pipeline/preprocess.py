"""decode_and_resize(): the one function that training, evaluation and serving share."""

import tensorflow as tf

# From this shrink factor on, a plain bilinear resize skips over pixels and aliases.
_ANTIALIAS_FROM_SHRINK = 2


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """string [] (JPEG, PNG, GIF, BMP or WebP) -> uint8 [H, W, 3], RGB.

    Of an animation the first frame. EXIF orientation is not applied.

    Raises:
      tf.errors.InvalidArgumentError: not an image, damaged, or another format.
    """
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def decode_and_resize(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """string [] -> float32 [image_size, image_size, 3], range [0, 255], RGB.

    Raises:
      tf.errors.InvalidArgumentError: see decode().
    """
    return resize(decode(image_bytes), image_size)


def resize(images: tf.Tensor, image_size: int) -> tf.Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., image_size, image_size, 3], [0, 255].

    The whole image is resized bilinearly and its aspect ratio given up, so that nothing
    of the subject is cut off. Photographs at least twice the target on a side are
    anti-aliased; smaller ones are not, where it would cost half as much again as
    decoding and resizing together and change little.
    """
    size = (image_size, image_size)
    longer_side = tf.reduce_max(tf.shape(images)[-3:-1])
    resized = tf.cond(
        longer_side >= _ANTIALIAS_FROM_SHRINK * image_size,
        lambda: tf.image.resize(images, size, antialias=True),
        lambda: tf.image.resize(images, size),
    )
    # Anti-aliasing overshoots by rounding error at most; the contract is [0, 255].
    resized = tf.clip_by_value(resized, 0.0, 255.0)
    return tf.ensure_shape(resized, [*images.shape[:-3], *size, 3])
