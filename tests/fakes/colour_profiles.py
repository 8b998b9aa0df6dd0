"""Makes small colour profiles (ICC.1:2001-04), because Pillow makes only sRGB."""

import struct

# Red, green and blue as XYZ under D50, and the exponent of the curves.
_SPACES = {
    "Display P3": (
        ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)),
        2.2,
    ),
    "Adobe RGB": (
        ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
        2.2,
    ),
    "ProPhoto": (
        ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)),
        1.8,
    ),
    "nearly sRGB": (
        ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)),
        2.2,
    ),
}
# Lab of paper and inks, about those of offset printing.
_INKS = {1: (55, -37, -50), 2: (48, 74, -3), 4: (89, -5, 93), 8: (16, 0, 0)}


def rgb_profile(name: str) -> bytes:
    primaries, gamma = _SPACES[name]
    tags = {b"desc": _description(name), b"wtpt": _xyz(0.9642, 1.0, 0.8249)}
    for letter, primary in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(*primary)
        tags[bytes([letter]) + b"TRC"] = _curve(gamma)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float) -> bytes:
    tags = {b"desc": _description("grey"), b"wtpt": _xyz(0.9642, 1.0, 0.8249)}
    return _profile(b"mntr", b"GRAY", b"XYZ ", {**tags, b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """A table of the 16 combinations of no ink and full ink."""
    identity = bytes(range(256))
    table = bytearray()
    for inks in range(16):
        # The first channel, cyan, changes slowest in the table.
        mixed = [100.0, 0.0, 0.0]
        for bit, place in ((1, 8), (2, 4), (4, 2), (8, 1)):
            if inks & place:
                lightness, a, b = _INKS[bit]
                mixed = [mixed[0] * lightness / 100, mixed[1] + a, mixed[2] + b]
        table += bytes([round(mixed[0] * 2.55)])
        table += bytes(round(min(max(value + 128, 0), 255)) for value in mixed[1:])
    matrix = struct.pack(">9i", *(1 << 16 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix
    lut += identity * 4 + bytes(table) + identity * 3
    tags = {b"desc": _description("offset"), b"wtpt": _xyz(0.9642, 1.0, 0.8249)}
    return _profile(b"prtr", b"CMYK", b"Lab ", {**tags, b"A2B0": lut})


def _profile(kind: bytes, space: bytes, connection: bytes, tags) -> bytes:
    table, data = b"", b""
    offset = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += padded
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI", 128 + len(body), bytes(4), 0x02400000)
    header += kind + space + connection + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    header += b"acsp" + bytes(28) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header + bytes(128 - len(header)) + body


def _description(text: str) -> bytes:
    letters = text.encode("ascii") + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(letters)) + letters + bytes(78)


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
