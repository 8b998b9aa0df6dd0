"""Makes small image files of every format, and files that are no images."""

import io
import struct
import zlib

from PIL import Image

from fakes import images


def encode(image_format, mode="RGB", size=(40, 30), **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 3).save(file, image_format, **options)
    return file.getvalue()


def photograph(index=0) -> bytes:
    file = io.BytesIO()
    images.draw("stripe", index).save(file, "JPEG")
    return file.getvalue()


def animation(image_format) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:])
    return file.getvalue()


def png_header(width, height) -> bytes:
    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def jpeg_header(width, height) -> bytes:
    image_bytes = bytearray(encode("JPEG"))
    offset = image_bytes.index(b"\xff\xc0") + 5
    image_bytes[offset : offset + 4] = struct.pack(">HH", height, width)
    return bytes(image_bytes)


def gif_frame(width, height, *, before=b"") -> bytes:
    """A GIF with a screen of 10 x 10 and a frame of any size."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return screen + before + frame + b"\x02\x02\x4c\x01\x00\x3b"


def gif_frame_block(width, height) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return frame + b"\x02\x02\x4c\x01\x00"


def webp_canvas(width, height) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width, height) -> bytes:
    image_bytes = bytearray(encode("BMP"))
    image_bytes[18:26] = struct.pack("<ii", width, height)
    return bytes(image_bytes)


IMAGES = {
    "baseline": encode("JPEG"),
    "progressive": encode("JPEG", progressive=True),
    "grey JPEG": encode("JPEG", "L"),
    "CMYK": encode("JPEG", "CMYK"),
    "PNG": encode("PNG"),
    "RGBA": encode("PNG", "RGBA"),
    "palette": encode("PNG", "P"),
    "grey PNG": encode("PNG", "L"),
    "16-bit": encode("PNG", "I;16"),
    "1 x 1": encode("PNG", size=(1, 1)),
    "GIF": encode("GIF", "P"),
    "animated GIF": animation("GIF"),
    "BMP": encode("BMP"),
    "lossy WebP": encode("WEBP"),
    "lossless WebP": encode("WEBP", lossless=True),
}
BAD_IMAGES = {
    "empty": b"",
    "text": b"no image at all",
    "HTML": b"<!DOCTYPE html><html></html>",
    "base64": b"/9j/4AAQSkZJRgABAQAAAQABAAD",
    "TIFF": encode("TIFF"),
    "animated WebP": animation("WEBP"),
    "truncated": photograph()[:-200],
    "two bytes": b"\xff\xd8",
    "three bytes": b"\xff\xd8\xff",
    "GIF magic": b"GIF89a",
    "PNG magic": b"\x89PNG\r\n\x1a\n",
    "RIFF": b"RIFF\0\0\0\0WEBPVP8 ",
    "PNG of 60,000": png_header(60_000, 60_000),
    "JPEG of 60,000": jpeg_header(60_000, 60_000),
    "GIF of 60,000": gif_frame(60_000, 60_000),
    "GIF of wide and high frames": gif_frame(
        60_000, 1, before=gif_frame_block(1, 60_000)
    ),
    "GIF of many frames": gif_frame(9_990, 9_990, before=gif_frame_block(9_990, 9_990)),
    "GIF of many blocks": gif_frame(
        9, 9, before=b"\x21\xfe" + b"\x01a" * 100_001 + b"\0"
    ),
    "WebP of 16,000,000": webp_canvas(2**24, 2**24),
    "BMP of 60,000": bmp_header(60_000, 60_000),
    "BMP of -60,000": bmp_header(60_000, -60_000),
}
