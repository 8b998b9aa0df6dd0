"""Looks at every image once: reads, checks, decodes and hashes it."""

# Decoding allocates what the header says: 12 bytes a pixel by the time it is float32.
MAX_PIXELS = 100_000_000

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}
# What tf.io.decode_image reads, by the names Pillow gives the formats.
DECODABLE_FORMATS = tuple(SUFFIXES)
