"""Counts the pixels of an image by its header, in graph, before it is decoded."""

import tensorflow as tf

_HEADER_BYTES = 32

# That many blocks of 255 bytes are 25 megabytes. Walking them takes half a second.
_MAX_GIF_BLOCKS = 100_000

# Block types of the GIF89a specification.
_GIF_FRAME = 0x2C
_GIF_EXTENSION = 0x21
_GIF_TRAILER = 0x3B


# Traced once, for all signatures: a loaded version is planned in half of the time.
@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def count_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """Counts the pixels that decoding allocates, by the header alone.

    Args:
      image_bytes: string [].

    Returns:
      int64 []: 0 if the bytes are no image of a known format. An animated WebP, which
      the decoder does not read, is also 0.
    """
    header = tf.cast(
        tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=_HEADER_BYTES), tf.int64
    )

    def starts_with(magic: bytes, offset: int = 0) -> tf.Tensor:
        return tf.reduce_all(header[offset : offset + len(magic)] == list(magic))

    def number(offset: int, num_bytes: int, *, big_endian: bool = False) -> tf.Tensor:
        powers = [256**i for i in range(num_bytes)]
        powers = powers[::-1] if big_endian else powers
        return tf.reduce_sum(header[offset : offset + num_bytes] * powers)

    def count_bmp() -> tf.Tensor:
        height = number(22, 4)  # Negative if the rows are stored from the top.
        return number(18, 4) * tf.minimum(height, 2**32 - height)

    def count_webp() -> tf.Tensor:
        lossy = (number(26, 2) & 0x3FFF) * (number(28, 2) & 0x3FFF)
        bits = number(21, 4)
        lossless = ((bits & 0x3FFF) + 1) * ((bits // 2**14 & 0x3FFF) + 1)
        extended = (number(24, 3) + 1) * (number(27, 3) + 1)
        is_still = starts_with(b"VP8X", offset=12) & (header[20] & 2 == 0)
        return tf.where(
            starts_with(b"VP8 ", offset=12),
            lossy,
            tf.where(
                starts_with(b"VP8L", offset=12),
                lossless,
                tf.where(is_still, extended, tf.zeros_like(extended)),
            ),
        )

    def count_jpeg() -> tf.Tensor:
        shape = tf.cast(tf.io.extract_jpeg_shape(image_bytes), tf.int64)
        return shape[0] * shape[1]

    def count_png() -> tf.Tensor:
        # No side of a PNG is longer, and the product of two longer ones overflows.
        width, height = (
            tf.minimum(number(offset, 4, big_endian=True), 2**31 - 1)
            for offset in (16, 20)
        )
        return width * height

    return tf.case(
        [
            (starts_with(b"\xff\xd8\xff"), count_jpeg),
            (starts_with(b"\x89PNG\r\n\x1a\n"), count_png),
            (starts_with(b"GIF8"), lambda: _count_gif_pixels(image_bytes)),
            (starts_with(b"BM"), count_bmp),
            (starts_with(b"RIFF") & starts_with(b"WEBP", offset=8), count_webp),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )


# Longer than 60 lines: the small functions are the vocabulary of the walk, and each of
# them reads the bytes of this one file.
def _count_gif_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """Counts the pixels that TensorFlow's decoder allocates for a GIF.

    The decoder keeps every frame, and allocates for each frame the largest width times
    the largest height of all frames. A frame may be larger than the screen that the
    header declares, so this function walks all blocks (GIF89a specification,
    appendix A). pipeline/inspection/gif.py does the same in Python.

    Args:
      image_bytes: string [].

    Returns:
      int64 []: the largest int64 if the file has too many blocks to walk.
    """
    codes = tf.cast(tf.io.decode_raw(image_bytes, tf.uint8), tf.int32)
    end = tf.size(codes)
    # A read beyond the end returns the trailer.
    codes = tf.concat([codes, tf.fill([16], _GIF_TRAILER)], axis=0)

    def byte_at(offset: tf.Tensor) -> tf.Tensor:
        return codes[tf.minimum(offset, end)]

    def color_table_bytes(packed: tf.Tensor) -> tf.Tensor:
        size = 3 * tf.bitwise.left_shift(tf.ones_like(packed), (packed & 7) + 1)
        return tf.where(packed & 0x80 > 0, size, tf.zeros_like(size))

    def skip_sub_blocks(
        offset: tf.Tensor, blocks: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        offset, blocks = tf.while_loop(
            lambda offset, blocks: (
                (byte_at(offset) > 0) & (offset < end) & (blocks < _MAX_GIF_BLOCKS)
            ),
            lambda offset, blocks: (offset + 1 + byte_at(offset), blocks + 1),
            (offset, blocks),
        )
        return offset + 1, blocks + 1

    def two_bytes_at(offset: tf.Tensor) -> tf.Tensor:
        return tf.cast(byte_at(offset) + 256 * byte_at(offset + 1), tf.int64)

    def walk_block(
        offset: tf.Tensor,
        blocks: tf.Tensor,
        *totals: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        max_width, max_height, total_pixels = totals
        is_frame = byte_at(offset) == _GIF_FRAME
        width, height = (
            tf.where(is_frame, two_bytes_at(offset + field), tf.zeros([], tf.int64))
            for field in (5, 7)
        )
        # A frame has a descriptor, colours and a code size before its data; an
        # extension has a label.
        frame_data = offset + 11 + color_table_bytes(byte_at(offset + 9))
        data = tf.where(is_frame, frame_data, offset + 2)
        return (
            *skip_sub_blocks(data, blocks),
            tf.maximum(max_width, width),
            tf.maximum(max_height, height),
            total_pixels + width * height,
        )

    zero = tf.zeros([], tf.int64)
    first_block = 13 + color_table_bytes(byte_at(10))
    _, blocks, max_width, max_height, total_pixels = tf.while_loop(
        lambda offset, blocks, *_: (
            (offset < end)
            & (blocks < _MAX_GIF_BLOCKS)
            & ((byte_at(offset) == _GIF_FRAME) | (byte_at(offset) == _GIF_EXTENSION))
        ),
        walk_block,
        (first_block, tf.zeros([], tf.int32), zero, zero, zero),
    )
    pixels = tf.maximum(max_width * max_height, total_pixels)
    return tf.where(blocks < _MAX_GIF_BLOCKS, pixels, tf.int64.max)
