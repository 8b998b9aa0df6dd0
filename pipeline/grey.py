"""An image, decoded to be hashed: small and grey, and wholly read so that damage shows.

Whatever is accepted here, preprocess.decode() can decode: for all formats because it is
asked, for plain JPEGs because Pillow has read them with the same library.
"""

from PIL import Image

# The hash looks at the 16 lowest frequencies of either side.
_SIDE_PX = 96

# Baseline, extended and progressive Huffman coding. Pillow's libjpeg reads others too,
# arithmetic coding and lossless JPEG, which TensorFlow's may not.
_PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)
_TABLES_AND_NOTES = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))


def decode(image_bytes: bytes, opened: Image.Image) -> Image.Image:
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

    from pipeline import preprocess

    try:
        pixels = preprocess.decode(tf.constant(image_bytes)).numpy()
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
    return _frame_marker(image_bytes) in _PLAIN_FRAMES


def _frame_marker(image_bytes: bytes) -> int | None:
    """The kind of a JPEG's frame; None where anything odd comes before it."""
    at, end = 2, len(image_bytes) - 4
    while at < end and image_bytes[at] == 0xFF:
        marker = image_bytes[at + 1]
        if marker not in _TABLES_AND_NOTES:
            return marker
        at += 2 + int.from_bytes(image_bytes[at + 2 : at + 4], "big")
    return None
