"""count_pixels(): what decoding a GIF allocates, read off its blocks."""


def count_pixels(image_bytes: bytes) -> int:
    """Pixels that a decoder of all frames keeps; 0 where there is no frame.

    Each frame says its own size, which the size of the screen in the header does not
    bind; TensorFlow keeps every frame, and gives one that is as wide as the widest and
    as high as the highest (GIF89a specification, appendix A).
    """

    def number(at: int) -> int:
        return int.from_bytes(image_bytes[at : at + 2], "little")

    def colours(at: int) -> int:
        packed = image_bytes[at] if at < len(image_bytes) else 0
        return 3 << (packed & 7) + 1 if packed & 0x80 else 0

    width = height = total = 0
    at = 13 + colours(10)
    while image_bytes[at : at + 1] in (b"\x2c", b"\x21"):
        if image_bytes[at] == 0x2C:
            wide, high = number(at + 5), number(at + 7)
            width, height = max(width, wide), max(height, high)
            total += wide * high
            at += 11 + colours(at + 9)
        else:
            at += 2
        while at < len(image_bytes) and image_bytes[at]:
            at += 1 + image_bytes[at]
        at += 1
    return max(width * height, total)
