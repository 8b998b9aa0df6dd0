"""Image bytes -> images, where one bad image spoils its own row only.

Everything here is graph: it runs inside the server, on bytes from anybody.
"""

from collections.abc import Callable

import tensorflow as tf

from export.graph.image_headers import (
    count_pixels,
)
from pipeline import decoding
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS

# More would decode faster and let more large images be in memory at once.
_PARALLEL_DECODERS = 4


def decode_rows(
    encoded: tf.Tensor,
    image_size: int,
    *,
    contained: bool,
    find_image_bytes: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and resizes a batch as training does.

    Args:
      encoded: string [n].
      contained: give a row of zeros for a bad image instead of failing.
      find_image_bytes: string [] -> string [], from one of them to the image in it.

    Returns:
      float32 [max(n, 1), image_size, image_size, 3], range [0, 255]: no layer is run on
        an empty batch, which TensorFlow's fused ones do not survive.
      bool [n]: which rows are images.

    Raises:
      tf.errors.InvalidArgumentError: not contained, and an image is bad.
    """
    count = tf.size(encoded, tf.int64)

    def decode(row, one):
        image_bytes = find_image_bytes(one)
        with tf.control_dependencies([assert_safe(image_bytes)]):
            image_bytes = tf.identity(image_bytes)
        return row, decoding.decode_and_resize(image_bytes, image_size)

    rows = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    rows = rows.map(decode, num_parallel_calls=_PARALLEL_DECODERS)
    if contained:
        rows = rows.ignore_errors()
    none = (tf.zeros([0], tf.int64), tf.zeros([0, image_size, image_size, 3]))
    # The second batch, which is empty, is the first if no row is an image.
    batches = rows.batch(tf.maximum(count, 1))
    batches = batches.concatenate(tf.data.Dataset.from_tensors(none)).take(1)
    places, images = batches.get_single_element()

    side_sizes = tf.constant([image_size, image_size, 3], tf.int64)

    def spread():
        shape = tf.concat([tf.maximum([count], 1), side_sizes], axis=0)
        return tf.scatter_nd(places[:, tf.newaxis], images, shape)

    all_fine = (tf.size(places, tf.int64) == count) & (count > 0)
    # Where all are images they are in place already: twenty megabytes not copied.
    images = tf.cond(all_fine, lambda: images, spread)
    ok = tf.scatter_nd(places[:, tf.newaxis], tf.ones_like(places), count[tf.newaxis])
    return tf.ensure_shape(images, [None, image_size, image_size, 3]), ok > 0


def assert_safe(image_bytes: tf.Tensor) -> tf.Operation:
    """string [] -> an assertion that decoding costs no more than it may.

    Decoders allocate what a header says, so a file of a hundred bytes can ask for ten
    gigabytes. Formats that training does not read are refused as well.
    """
    pixels = count_pixels(image_bytes)
    limit = MAX_PIXELS
    return tf.debugging.Assert(
        (pixels > 0) & (pixels <= limit),
        [
            f"Images are {', '.join(DECODABLE_FORMATS)} of at most {limit} "
            "pixels and not animated WebP. Received, by its header, this many pixels "
            "(0: none of these):",
            pixels,
        ],
    )
