"""Decodes a batch of image bytes so that a bad image affects only its own row.

All of it is graph: a server runs it on bytes that anybody may have sent.
"""

from collections.abc import Callable

import tensorflow as tf

from export.graph.image_headers import count_pixels
from export.protocol.messages import MAX_REQUEST_PIXELS
from pipeline import decoding
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS

# More of them decode faster, but hold more large images in memory at once.
_PARALLEL_DECODERS = 4


def decode_rows(
    encoded: tf.Tensor,
    image_size: int,
    *,
    contained: bool,
    find_image_bytes: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and resizes a batch exactly as training does.

    If the images of a batch have more than MAX_REQUEST_PIXELS together, the largest
    ones are bad images. With a batch of n, no image of MAX_REQUEST_PIXELS / n or fewer
    pixels is one of them: a server may have put requests of several clients together.

    Args:
      encoded: string [n].
      image_size: side of the square result in pixels.
      contained: a bad image becomes a row of zeros. Otherwise it is an error.
      find_image_bytes: maps one element of `encoded`, string [], to the bytes of its
        image, string [].

    Returns:
      images: uint8 [max(n, 1), image_size, image_size, 3]. There is at least one row
        because TensorFlow's fused layers crash on an empty batch.
      decode_ok: bool [n], True where the row is an image.

    Raises:
      tf.errors.InvalidArgumentError: an image is bad, and `contained` is False.
    """
    count = tf.size(encoded, tf.int64)
    fits = tf.cond(
        # So many of the largest images fit, and their headers are not read twice.
        count <= MAX_REQUEST_PIXELS // MAX_PIXELS,
        lambda: tf.fill([count], True),
        lambda: _find_rows_that_fit(encoded, find_image_bytes),
    )

    def decode(
        row: tf.Tensor, element: tf.Tensor, fits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        image_bytes = find_image_bytes(element)
        with tf.control_dependencies([assert_safe(image_bytes, fits)]):
            image_bytes = tf.identity(image_bytes)
        return row, decoding.decode_and_resize(image_bytes, image_size)

    # Numbered before errors are ignored: the numbers say which rows are missing.
    # Dataset.enumerate() does the same, but costs a millisecond a request.
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded, fits))
    rows = rows.map(decode, num_parallel_calls=_PARALLEL_DECODERS)
    if contained:
        rows = rows.ignore_errors()
    no_images = tf.zeros([0, image_size, image_size, 3], tf.uint8)
    row_numbers, images = _collect(rows, count, no_images)

    image_shape = tf.constant([image_size, image_size, 3], tf.int64)

    def spread() -> tf.Tensor:
        shape = tf.concat([tf.maximum([count], 1), image_shape], axis=0)
        return tf.scatter_nd(row_numbers[:, tf.newaxis], images, shape)

    all_ok = (tf.size(row_numbers, tf.int64) == count) & (count > 0)
    # If all rows are images, they are in place: 5 megabytes need no copy.
    images = tf.cond(all_ok, lambda: images, spread)
    num_decoded = tf.scatter_nd(
        row_numbers[:, tf.newaxis], tf.ones_like(row_numbers), count[tf.newaxis]
    )
    images = tf.ensure_shape(images, [None, image_size, image_size, 3])
    return images, num_decoded > 0


def _find_rows_that_fit(
    encoded: tf.Tensor, find_image_bytes: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Returns True for the smallest images whose pixels fit into a request together.

    Args:
      encoded: string [n].
      find_image_bytes: see decode_rows.

    Returns:
      bool [n]: True also for what is no image or too large, which is not decoded.
    """
    count = tf.size(encoded, tf.int64)

    def count_row(row: tf.Tensor, element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = count_pixels(find_image_bytes(element))
        return row, tf.where(pixels <= MAX_PIXELS, pixels, tf.zeros_like(pixels))

    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    rows = rows.map(count_row, num_parallel_calls=_PARALLEL_DECODERS).ignore_errors()
    row_numbers, counted = _collect(rows, count, tf.zeros([0], tf.int64))
    pixels = tf.scatter_nd(row_numbers[:, tf.newaxis], counted, count[tf.newaxis])
    # A server fills a batch up with copies of a row: of equal rows, the first fits.
    smallest_first = tf.argsort(pixels, stable=True)
    fits = tf.cumsum(tf.gather(pixels, smallest_first)) <= MAX_REQUEST_PIXELS
    return tf.gather(fits, tf.argsort(smallest_first))


def _collect(
    rows: tf.data.Dataset, count: tf.Tensor, empty: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the elements (row number, value) of a dataset as two tensors.

    Args:
      rows: at most `count` elements.
      count: int64 [].
      empty: the values if there is no element.
    """
    # If there is none, the appended empty batch is the first one.
    batches = rows.batch(tf.maximum(count, 1))
    nothing = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int64), empty))
    return batches.concatenate(nothing).take(1).get_single_element()


def assert_safe(image_bytes: tf.Tensor, fits: tf.Tensor) -> tf.Operation:
    """Asserts that an image has a format that training reads, and not too many pixels.

    Decoders allocate what the header declares, so a file of a hundred bytes can ask for
    ten gigabytes.

    Args:
      image_bytes: string [].
      fits: bool [], False if the images of its batch have too many pixels together.
    """
    pixels = count_pixels(image_bytes)
    return tf.debugging.Assert(
        (pixels > 0) & (pixels <= MAX_PIXELS) & fits,
        [
            f"An image must be {', '.join(DECODABLE_FORMATS)}, not an animated WebP, "
            f"and have at most {MAX_PIXELS} pixels, and the images of a batch at most "
            f"{MAX_REQUEST_PIXELS} together. Received: an image with this number of "
            "pixels in its header (0: another format):",
            pixels,
        ],
    )
