"""Image bytes -> images, where one bad image spoils its own row only.

Everything here is graph: it runs inside the server, on bytes from anybody.
"""

import tensorflow as tf

_HEADER_BYTES = 32

# Of 255 bytes each they make 25 megabytes; the walk takes half a second.
_MOST_GIF_BLOCKS = 100_000


def count_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """string [] -> int64 []: pixels to decode by the header; 0 if it is no image."""
    header = tf.cast(
        tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=_HEADER_BYTES), tf.int64
    )

    def starts_with(magic: bytes, at: int = 0) -> tf.Tensor:
        return tf.reduce_all(header[at : at + len(magic)] == list(magic))

    def number(at: int, num_bytes: int, *, big_endian: bool = False) -> tf.Tensor:
        powers = [256**i for i in range(num_bytes)]
        powers = powers[::-1] if big_endian else powers
        return tf.reduce_sum(header[at : at + num_bytes] * powers)

    def of_bmp():
        height = number(22, 4)  # negative if the rows are stored from the top
        return number(18, 4) * tf.minimum(height, 2**32 - height)

    def of_webp():
        lossy = (number(26, 2) & 0x3FFF) * (number(28, 2) & 0x3FFF)
        bits = number(21, 4)
        lossless = ((bits & 0x3FFF) + 1) * ((bits // 2**14 & 0x3FFF) + 1)
        extended = (number(24, 3) + 1) * (number(27, 3) + 1)
        is_still = starts_with(b"VP8X", at=12) & (header[20] & 2 == 0)
        return tf.where(
            starts_with(b"VP8 ", at=12),
            lossy,
            tf.where(
                starts_with(b"VP8L", at=12),
                lossless,
                tf.where(is_still, extended, tf.zeros_like(extended)),
            ),
        )

    def of_jpeg():
        shape = tf.cast(tf.io.extract_jpeg_shape(image_bytes), tf.int64)
        return shape[0] * shape[1]

    return tf.case(
        [
            (starts_with(b"\xff\xd8\xff"), of_jpeg),
            (
                starts_with(b"\x89PNG\r\n\x1a\n"),
                lambda: number(16, 4, big_endian=True) * number(20, 4, big_endian=True),
            ),
            (starts_with(b"GIF8"), lambda: _count_gif_pixels(image_bytes)),
            (starts_with(b"BM"), of_bmp),
            (starts_with(b"RIFF") & starts_with(b"WEBP", at=8), of_webp),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )


def _count_gif_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """string [] -> int64 []: pixels that are allocated for a GIF.

    TensorFlow's decoder keeps every frame, and gives one that is as wide as the widest
    and as high as the highest. The size of the screen in the header binds it to
    nothing, so the blocks are walked (GIF89a specification, appendix A), and one of
    more blocks than a minute of film has counts as too large.
    """
    codes = tf.cast(tf.io.decode_raw(image_bytes, tf.uint8), tf.int32)
    end = tf.size(codes)
    # Reads beyond the end see the trailer.
    codes = tf.concat([codes, tf.fill([16], 0x3B)], axis=0)

    def at(place):
        return codes[tf.minimum(place, end)]

    def colours(packed):
        size = 3 * tf.bitwise.left_shift(tf.ones_like(packed), (packed & 7) + 1)
        return tf.where(packed & 0x80 > 0, size, tf.zeros_like(size))

    def skip_sub_blocks(place, blocks):
        place, blocks = tf.while_loop(
            lambda place, blocks: (
                (at(place) > 0) & (place < end) & (blocks < _MOST_GIF_BLOCKS)
            ),
            lambda place, blocks: (place + 1 + at(place), blocks + 1),
            (place, blocks),
        )
        return place + 1, blocks + 1

    def side(place):
        return tf.cast(at(place) + 256 * at(place + 1), tf.int64)

    def step(place, blocks, width, height, total):
        is_frame = at(place) == 0x2C
        wide, high = (
            tf.where(is_frame, side(place + offset), tf.zeros([], tf.int64))
            for offset in (5, 7)
        )
        # A frame: descriptor, colours, code size; else an extension: its label.
        data = tf.where(is_frame, place + 11 + colours(at(place + 9)), place + 2)
        return (
            *skip_sub_blocks(data, blocks),
            tf.maximum(width, wide),
            tf.maximum(height, high),
            total + wide * high,
        )

    none = tf.zeros([], tf.int64)
    _, blocks, width, height, total = tf.while_loop(
        lambda place, blocks, *_: (
            (place < end)
            & (blocks < _MOST_GIF_BLOCKS)
            & ((at(place) == 0x2C) | (at(place) == 0x21))
        ),
        step,
        (13 + colours(at(10)), tf.zeros([], tf.int32), none, none, none),
    )
    pixels = tf.maximum(width * height, total)
    return tf.where(blocks < _MOST_GIF_BLOCKS, pixels, tf.int64.max)
