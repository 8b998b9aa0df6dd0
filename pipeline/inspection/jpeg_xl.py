"""Reads the header of a JPEG XL; its reader can only decode the whole file.

The bits are those of ISO/IEC 18181-1, annexes A (numbers), C (size) and D (image), and
the boxes those of ISO/IEC 18181-2.
"""

import dataclasses

# A bare codestream, and a container of boxes.
_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

# Width as a share of the height, by the number in the header; 0 is none of them.
_RATIOS = {
    **{1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2)},
    **{5: (16, 9), 6: (5, 4), 7: (2, 1)},
}
# The header has at most a few dozen bytes before what is read here.
_HEADER_BYTES = 512


@dataclasses.dataclass(frozen=True)
class Header:
    """What the header of a JPEG XL says.

    width, height: as they are stored, in pixels.
    is_lossy: its colours are XYB, which only compression with loss uses. None if the
      header has an extra channel with properties of its own, behind which it is not
      read.
    is_animated: it has several frames.
    """

    width: int
    height: int
    is_lossy: bool | None
    is_animated: bool


def is_jpeg_xl(image_bytes: bytes) -> bool:
    """Tells by its first bytes whether a file is a JPEG XL."""
    return image_bytes.startswith((_CODESTREAM, _CONTAINER))


def read_header(image_bytes: bytes) -> Header:
    """Reads the header.

    Raises:
      ValueError: the file is no JPEG XL, or ends before the header.
    """
    bits = _Bits(_find_codestream(image_bytes))
    width, height = _read_size(bits)
    if bits.read(1):  # All metadata have their defaults.
        return Header(width, height, is_lossy=True, is_animated=False)
    is_animated = False
    if bits.read(1):  # Extra fields.
        bits.read(3)  # Orientation.
        if bits.read(1):
            _read_size(bits)
        if bits.read(1):
            _skip_preview(bits)
        is_animated = bool(bits.read(1))
        if is_animated:
            _skip_animation(bits)
    _skip_depth(bits)
    bits.read(1)  # Buffers of 16 bits.
    extra_channels = _read_number(bits, ((0, 0), (1, 0), (2, 4), (1, 12)))
    if any(not bits.read(1) for _ in range(extra_channels)):
        return Header(width, height, None, is_animated)
    return Header(width, height, bool(bits.read(1)), is_animated)


class _Bits:
    """Reads bits from the lowest of each byte on."""

    def __init__(self, content: bytes):
        self._bits = int.from_bytes(content, "little")
        self._left = 8 * len(content)

    def read(self, count: int) -> int:
        """Returns the next bits as a number."""
        if count > self._left:
            raise ValueError("a JPEG XL that ends in its header")
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        self._left -= count
        return value


def _find_codestream(image_bytes: bytes) -> bytes:
    """Returns the beginning of the codestream, behind its two bytes of signature."""
    at = 0
    while not image_bytes[at:].startswith(_CODESTREAM):
        kind, begin = image_bytes[at + 4 : at + 8], at + 8
        size = int.from_bytes(image_bytes[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(image_bytes[at + 8 : at + 16], "big")
            begin = at + 16
        if kind == b"jxlc":
            at = begin
        elif kind == b"jxlp":  # A part, behind its number.
            at = begin + 4
        elif size < 8 or at + size >= len(image_bytes):
            raise ValueError("no JPEG XL")
        else:
            at += size
            continue
        break
    if image_bytes[at : at + 2] != _CODESTREAM:
        raise ValueError("no JPEG XL")
    return image_bytes[at + 2 : at + 2 + _HEADER_BYTES]


def _read_number(bits: _Bits, choices: tuple[tuple[int, int], ...]) -> int:
    """Reads two bits that choose (what is added, how many bits follow)."""
    added, count = choices[bits.read(2)]
    return added + bits.read(count)


def _read_size(bits: _Bits) -> tuple[int, int]:
    """Returns width and height."""
    lengths = ((1, 9), (1, 13), (1, 18), (1, 30))
    is_small = bits.read(1)  # A multiple of 8.

    def read_side() -> int:
        return 8 * (1 + bits.read(5)) if is_small else _read_number(bits, lengths)

    height = read_side()
    ratio = bits.read(3)
    if not ratio:
        return read_side(), height
    numerator, denominator = _RATIOS[ratio]
    return height * numerator // denominator, height


def _skip_preview(bits: _Bits) -> None:
    lengths = ((16, 0), (32, 0), (1, 5), (33, 9))
    if not bits.read(1):
        lengths = ((1, 6), (65, 8), (321, 10), (1345, 12))
    _read_number(bits, lengths)
    if not bits.read(3):
        _read_number(bits, lengths)


def _skip_animation(bits: _Bits) -> None:
    _read_number(bits, ((100, 0), (1000, 0), (1, 10), (1, 30)))
    _read_number(bits, ((1, 0), (1001, 0), (1, 8), (1, 10)))
    _read_number(bits, ((0, 0), (0, 3), (0, 16), (0, 32)))
    bits.read(1)


def _skip_depth(bits: _Bits) -> None:
    if bits.read(1):  # Floating-point samples, with the bits of the exponent.
        _read_number(bits, ((32, 0), (16, 0), (24, 0), (1, 6)))
        bits.read(4)
    else:
        _read_number(bits, ((8, 0), (10, 0), (12, 0), (1, 6)))
