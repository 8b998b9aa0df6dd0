"""Holds the image formats that can be read, and the largest number of pixels."""

# The most pixels of an image. Decoding allocates memory for the size in the header: 12
# bytes per pixel as float32.
MAX_PIXELS = 100_000_000

# The EXIF tag of the orientation: 1 is upright, 2 to 8 are turned or mirrored.
ORIENTATION_TAG = 0x0112

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}
# The formats that tf.io.decode_image reads, under their names in Pillow.
DECODABLE_FORMATS = tuple(SUFFIXES)

# The formats that Pillow reads and TensorFlow does not: they are converted.
CONVERTED_SUFFIXES = {
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
# Pillow's name of a JPEG file with more pictures after the first one, such as gain maps
# or pictures of a second camera.
MULTI_PICTURE = "MPO"
SUFFIXES_OF_SOURCES = {
    **SUFFIXES,
    **CONVERTED_SUFFIXES,
    MULTI_PICTURE: (*SUFFIXES["JPEG"], ".mpo"),
}
