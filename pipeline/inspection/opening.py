"""Opens an image with Pillow, and loads a reader of HEIF or JPEG XL where needed."""

import functools
import io

from PIL import Image, ImageFile

from pipeline.inspection import jpeg_xl
from pipeline.inspection.formats import MAX_PIXELS

# Brands in the first box of a HEIF file (ISO/IEC 23008-12, annex B). The general ones
# are also those of AVIF, which Pillow reads itself.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_GENERAL_BRANDS = (b"mif1", b"msf1", b"mif2")

# JPEG, PNG, GIF and BMP: every program of the world has tried their decoders, and none
# of them waits for another thread.
_COMMON_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")


class MissingReaderError(ValueError):
    """Raised for a format whose package is not installed."""


def open_image(image_bytes: bytes) -> ImageFile.ImageFile:
    """Opens an image; its pixels are not decoded yet, but those of a JPEG XL.

    Raises:
      MissingReaderError: the image is HEIF or JPEG XL, and its reader is not installed.
      ValueError: a JPEG XL that is damaged or animated.
      PIL.UnidentifiedImageError: no image, or of an unknown format.
      PIL.Image.DecompressionBombError: an image with very many pixels.
    """
    if _is_heif(image_bytes):
        load_heif_reader()
    if jpeg_xl.is_jpeg_xl(image_bytes):
        return _open_jpeg_xl(image_bytes)
    return Image.open(io.BytesIO(image_bytes))


def is_common(image_bytes: bytes) -> bool:
    """Tells by the first bytes whether the decoder of an image is trusted.

    Any other image is opened in a process of its own: its decoder could hang or crash.
    """
    return image_bytes.startswith(_COMMON_STARTS)


def _open_jpeg_xl(image_bytes: bytes) -> ImageFile.ImageFile:
    header = jpeg_xl.read_header(image_bytes)
    if header.is_animated:  # The reader returns its last frame.
        raise ValueError("an animated JPEG XL")
    if header.width * header.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"more than {MAX_PIXELS} pixels")
    load_jpeg_xl_reader()
    try:
        opened = Image.open(io.BytesIO(image_bytes))
    except RuntimeError as error:
        raise ValueError("a damaged JPEG XL") from error
    # The reader turns it upright, unless it holds a JPEG: then EXIF counts.
    if not getattr(opened, "jpeg", False):
        opened.info.pop("exif", None)
    return opened


def _is_heif(image_bytes: bytes) -> bool:
    brand = image_bytes[8:12]
    if image_bytes[4:8] != b"ftyp":
        return False
    box_end = int.from_bytes(image_bytes[:4], "big")
    return brand in _HEIF_BRANDS or (
        brand in _GENERAL_BRANDS and b"avi" not in image_bytes[12 : min(box_end, 256)]
    )


@functools.cache
def load_heif_reader() -> None:
    """Registers the reader of HEIF with Pillow.

    Raises:
      MissingReaderError: pillow-heif is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingReaderError(
            "HEIF needs the extra heif: pip install -e '.[heif]'"
        ) from error
    pillow_heif.register_heif_opener()


@functools.cache
def load_jpeg_xl_reader() -> None:
    """Lets Pillow open JPEG XL.

    Raises:
      MissingReaderError: pillow-jxl-plugin is not installed.
    """
    try:
        import pillow_jxl  # noqa: F401
    except ImportError as error:
        raise MissingReaderError(
            "JPEG XL needs the extra heif: pip install -e '.[heif]'"
        ) from error
