"""Counts the pixels that decoding a GIF allocates, without decoding it."""


def count_pixels(image_bytes: bytes) -> int:
    """Returns the number of pixels that a decoder of all frames keeps; 0 if no frame.

    Each frame has its own size, which may be larger than the size in the header.
    TensorFlow keeps every frame, and returns an image that is as wide as the widest
    and as high as the highest frame (GIF89a specification, appendix A).
    """

    def read_number(at: int) -> int:
        return int.from_bytes(image_bytes[at : at + 2], "little")

    def count_color_table_bytes(at: int) -> int:
        packed = image_bytes[at] if at < len(image_bytes) else 0
        return 3 << (packed & 7) + 1 if packed & 0x80 else 0

    width = height = total = 0
    at = 13 + count_color_table_bytes(10)
    while image_bytes[at : at + 1] in (b"\x2c", b"\x21"):
        if image_bytes[at] == 0x2C:
            frame_width, frame_height = read_number(at + 5), read_number(at + 7)
            width, height = max(width, frame_width), max(height, frame_height)
            total += frame_width * frame_height
            at += 11 + count_color_table_bytes(at + 9)
        else:
            at += 2
        while at < len(image_bytes) and image_bytes[at]:
            at += 1 + image_bytes[at]
        at += 1
    return max(width * height, total)
