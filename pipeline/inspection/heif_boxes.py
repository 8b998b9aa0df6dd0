"""Reads from the boxes of a HEIF or an AVIF whether it may be compressed without loss.

The boxes are those of ISO/IEC 14496-12 and 23008-12; their content is that of 14496-15
(hvcC), of the AV1 codec ISO media file format binding (av1C) and of H.273 (colours).
"""

from collections.abc import Iterator

# Matrix coefficients that change colours without rounding: RGB as it is, YCgCo-Re and
# YCgCo-Ro.
_REVERSIBLE_MATRICES = (0, 16, 17)
# Bits of the third byte of av1C: no colours, fewer columns, fewer rows of colours.
_AV1_SUBSAMPLED = 0b0001_1100
# The chroma format in byte 16 of hvcC.
_HEVC_444 = 3
_FULL_BOX_BYTES = 4


def may_be_lossless(image_bytes: bytes) -> bool:
    """Tells whether the colours are stored so that they come back exactly.

    No box says that a file was compressed without loss. But with other colours it was
    not, and encoders use these only for compression without loss, where they cost
    least. A grey image has no colours to tell it by: the result is False.
    """
    has_exact_colours = has_every_pixel = False
    for kind, content in _find_properties(image_bytes):
        if kind == b"colr" and content[:4] == b"nclx":
            matrix = int.from_bytes(content[8:10], "big")
            has_exact_colours |= matrix in _REVERSIBLE_MATRICES
        elif kind == b"av1C" and len(content) > 2:
            has_every_pixel |= not content[2] & _AV1_SUBSAMPLED
        elif kind == b"hvcC" and len(content) > 16:
            has_every_pixel |= content[16] & 3 == _HEVC_444
    return has_exact_colours and has_every_pixel


def _find_properties(image_bytes: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content of the properties of all pictures of the file."""
    for kind, content in _split_boxes(image_bytes):
        if kind == b"meta":
            yield from _find_properties(content[_FULL_BOX_BYTES:])
        elif kind == b"iprp":
            yield from _find_properties(content)
        elif kind == b"ipco":
            yield from _split_boxes(content)


def _split_boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content of each box, up to one with an impossible size."""
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        kind, begin = content[at + 4 : at + 8], at + 8
        if size == 1:  # The size needs 8 bytes, which follow.
            size = int.from_bytes(content[at + 8 : at + 16], "big")
            begin = at + 16
        end = len(content) if size == 0 else at + size
        if end < begin:
            return
        yield kind, content[begin:end]
        at = end
