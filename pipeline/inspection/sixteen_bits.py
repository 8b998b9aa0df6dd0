"""Reduces images of 16 bits a channel to the upper 8 of the bits that a data set uses.

A camera or a scanner of 12 bits stores values up to 4,095 in files of 16 bits. Of such
an image, a decoder that keeps the upper 8 of the 16 bits keeps only 4 that are used.
"""

import io

import numpy as np
from PIL import Image

_GREY_MODES = ("I;16", "I;16B", "I;16L", "I")
# Bits and kind of colours in the first chunk of a PNG (PNG specification, 11.2.1).
_PNG_16_BIT_RGB = b"\x10\x02"


def is_16_bit(image_bytes: bytes, opened: Image.Image) -> bool:
    """Tells by the header whether an image is 16-bit: a grey image, or a PNG in RGB."""
    is_rgb_png = opened.format == "PNG" and image_bytes[24:26] == _PNG_16_BIT_RGB
    return opened.mode in _GREY_MODES or is_rgb_png


def read_samples(image_bytes: bytes) -> np.ndarray:
    """Decodes a 16-bit image to uint16 [H, W] or [H, W, 3].

    Raises:
      ValueError: values below 0 or above 65,535.
    """
    image = Image.open(io.BytesIO(image_bytes))
    if image.mode in _GREY_MODES:
        samples = np.asarray(image)
        if samples.size and not 0 <= samples.min() <= samples.max() < 1 << 16:
            raise ValueError("values of more than 16 bits")
        return samples.astype(np.uint16)
    # Pillow reads only the upper byte of each sample. With the other order of the
    # bytes, that is the lower byte.
    with Image.open(io.BytesIO(image_bytes)) as other_order:
        other_order.tile = [other_order.tile[0]._replace(args="RGB;16L")]
        lower = np.asarray(other_order, np.uint16)
    return np.asarray(image, np.uint16) << 8 | lower


def count_bits(samples: np.ndarray) -> int:
    """Returns the number of bits that the largest sample needs; at least 8."""
    return max(int(samples.max(initial=0)).bit_length(), 8)


def to_8_bits(samples: np.ndarray, *, bits: int) -> Image.Image:
    """Returns an "L" or "RGB" image of the upper 8 of the bits that are used.

    samples: uint16 [H, W] or [H, W, 3].
    bits: how many of the 16 bits are used, 8 to 16.
    """
    return Image.fromarray((samples >> (bits - 8)).clip(0, 255).astype(np.uint8))
