"""Decodes an image for hashing, small and grey, and detects damage in its file.

Training decodes with decoding.decode(), which can decode every image that is accepted
here: Pillow decodes a plain JPEG with the same library that TensorFlow uses, and
decoding.decode() itself decodes every other image.
"""

import contextlib
import re

from PIL import Image

from pipeline.inspection.formats import MULTI_PICTURE

# The hash uses the 16 lowest frequencies of each side.
_SIDE_PX = 96

# Baseline, extended and progressive Huffman coding. The libjpeg of Pillow also reads
# arithmetic coding and lossless JPEG; the one of TensorFlow may not.
_PROGRESSIVE = 0xC2
_PLAIN_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_SCAN, _RESTARTS = 0xDA, 0xDD
_TABLES_AND_COMMENTS = (0xC4, 0xDB, 0xFE, *range(0xE0, 0xF0))
_END = b"\xff\xd9"
# In the data of a scan, the bytes 0xFF 0x00 encode the value 0xFF.
_MARKER = re.compile(rb"\xff[^\x00]")
_MARKER_NOT_RESTART = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def decode_grey(image_bytes: bytes, opened: Image.Image) -> Image.Image:
    """Decodes an image to an "L" image.

    opened: the same image, of which Pillow has read only the header.

    Raises:
      ValueError: the file is damaged.
    """
    grey = decode_plain_jpeg(image_bytes, opened)
    return decode_with_tensorflow(image_bytes) if grey is None else grey


def decode_plain_jpeg(image_bytes: bytes, opened: Image.Image) -> Image.Image | None:
    """Decodes an undamaged, ordinary JPEG; returns None for every other image.

    The JPEG is decoded without its colours and up to 8 times smaller, but with no side
    below _SIDE_PX. The whole file is still read, so damage is found. This saves a third
    of the arithmetic, and most of it for a large photograph.
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


def decode_uncommon(image_bytes: bytes, opened: Image.Image) -> Image.Image | None:
    """Does the same as decode_plain_jpeg, and tries the decoder of a WebP.

    TensorFlow uses the same decoder afterwards, in a process that must not hang.
    """
    if opened.format == "WEBP":
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            opened.load()
    return decode_plain_jpeg(image_bytes, opened)


def decode_with_tensorflow(image_bytes: bytes) -> Image.Image:
    """Decodes an image to an "L" image with the decoder that training uses.

    Raises:
      ValueError: the file is damaged.
    """
    import tensorflow as tf

    from pipeline import decoding

    try:
        pixels = decoding.decode(tf.constant(image_bytes)).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError("TensorFlow cannot decode it") from error
    return Image.fromarray(pixels).convert("L")


def count_scans(image_bytes: bytes) -> int:
    """Returns the number of scans of a JPEG, up to its end marker.

    Behind that marker may be other pictures, or the film of a phone.
    """
    at, scans = 2, 0
    while image_bytes[at : at + 1] == b"\xff" and at + 4 <= len(image_bytes):
        if image_bytes[at : at + 2] == _END:
            break
        scans += image_bytes[at + 1] == _SCAN
        start = at + 2 + int.from_bytes(image_bytes[at + 2 : at + 4], "big")
        if image_bytes[at + 1] == _SCAN:
            marker = _MARKER_NOT_RESTART.search(image_bytes, start)
            start = marker.start() if marker else len(image_bytes)
        at = start
    return scans


def _is_plain_jpeg(image_bytes: bytes, opened: Image.Image) -> bool:
    if opened.format not in ("JPEG", MULTI_PICTURE) or opened.mode not in ("L", "RGB"):
        return False
    # TensorFlow upsamples the colours of a JPEG by whole factors only.
    layers: list[tuple[int, int, int, int]] = getattr(opened, "layer")  # noqa: B009
    columns = [layer[1] for layer in layers]
    rows = [layer[2] for layer in layers]
    for factors in (columns, rows):
        if 0 in factors or any(max(factors) % factor for factor in factors):
            return False
    return _is_well_formed(image_bytes)


def _is_well_formed(image_bytes: bytes) -> bool:
    """Returns True if the segments of a JPEG follow one another up to its end marker.

    If the end marker is missing or another marker is misplaced, Pillow accepts a file
    that has all rows, but TensorFlow refuses it.
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
            marker = next_marker.search(image_bytes, at)
            if marker is None:
                return False
            at = marker.start()
        elif kind not in _TABLES_AND_COMMENTS:
            return False
    return frames == [_PROGRESSIVE] or (len(frames) == 1 and scans == 1)
