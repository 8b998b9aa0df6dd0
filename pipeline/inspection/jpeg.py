"""An image, decoded to be hashed: small and grey, and wholly read so that damage shows.

Whatever is accepted here, preprocess.decode() can decode: for all formats because it is
asked, for plain JPEGs because Pillow has read them with the same library.
"""

import re

from PIL import Image

# The hash looks at the 16 lowest frequencies of either side.
_SIDE_PX = 96

# Baseline, extended and progressive Huffman coding. Pillow's libjpeg reads others too,
# arithmetic coding and lossless JPEG, which TensorFlow's may not.
_PROGRESSIVE = 0xC2
_PLAIN_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_SCAN, _RESTARTS = 0xDA, 0xDD
_TABLES_AND_NOTES = (0xC4, 0xDB, 0xFE, *range(0xE0, 0xF0))
_END = b"\xff\xd9"
# In the data of a scan 0xFF 0x00 stands for 0xFF.
_MARKER = re.compile(rb"\xff[^\x00]")
_MARKER_NOT_RESTART = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def decode_grey(image_bytes: bytes, opened: Image.Image) -> Image.Image:
    """An encoded image -> an "L" image; opened is its header.

    Raises:
      ValueError: damaged.
    """
    grey = decode_plain_jpeg(image_bytes, opened)
    return decode_with_tensorflow(image_bytes) if grey is None else grey


def decode_plain_jpeg(image_bytes: bytes, opened: Image.Image) -> Image.Image | None:
    """As decode(), for an ordinary JPEG without fault; None where TensorFlow decides.

    The JPEG is decoded without its colours and up to 8 times smaller, but no side below
    _SIDE_PX. All of the file is read; a third of the arithmetic is saved, and most of
    it of a large photograph.
    """
    if not _is_plain_jpeg(image_bytes, opened):
        return None
    width, height = opened.size
    ratio = max(min(width, height) // _SIDE_PX, 1)
    try:
        opened.draft("L", (max(width // ratio, 1), max(height // ratio, 1)))
        opened.load()
    except (OSError, SyntaxError, ValueError):
        return None
    return opened


def decode_with_tensorflow(image_bytes: bytes) -> Image.Image:
    """As decode(), with the decoder that training uses."""
    import tensorflow as tf

    from pipeline import decoding

    try:
        pixels = decoding.decode(tf.constant(image_bytes)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError("TensorFlow cannot decode it") from error
    return Image.fromarray(pixels).convert("L")


def _is_plain_jpeg(image_bytes: bytes, opened: Image.Image) -> bool:
    if opened.format != "JPEG" or opened.mode not in ("L", "RGB"):
        return False
    # Grey needs no upsampling of the colours, colour does: by whole numbers only.
    columns = [layer[1] for layer in opened.layer]
    rows = [layer[2] for layer in opened.layer]
    for factors in (columns, rows):
        if 0 in factors or any(max(factors) % factor for factor in factors):
            return False
    return _is_well_formed(image_bytes)


def _is_well_formed(image_bytes: bytes) -> bool:
    """Whether the segments of a JPEG follow each other without a gap up to its end.

    Where the end is missing or a marker in the wrong place, Pillow is content once it
    has all rows and TensorFlow is not.
    """
    at, frames, scans, next_marker = 2, [], 0, _MARKER
    while image_bytes[at : at + 2] != _END:
        if at + 4 > len(image_bytes) or image_bytes[at] != 0xFF:
            return False
        kind = image_bytes[at + 1]
        at += 2 + int.from_bytes(image_bytes[at + 2 : at + 4], "big")
        if kind in _PLAIN_FRAMES:
            frames.append(kind)
        elif kind == _RESTARTS:
            next_marker = _MARKER_NOT_RESTART
        elif kind == _SCAN:
            scans += 1
            found = next_marker.search(image_bytes, at)
            if found is None:
                return False
            at = found.start()
        elif kind not in _TABLES_AND_NOTES:
            return False
    return frames == [_PROGRESSIVE] or (len(frames) == 1 and scans == 1)
