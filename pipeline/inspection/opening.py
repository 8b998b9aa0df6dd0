"""Opens an image with Pillow, and loads the reader of HEIF where it is needed."""

import functools
import io

from PIL import Image, ImageFile

# Brands in the first box of a HEIF file (ISO/IEC 23008-12, annex B). AVIF, which Pillow
# reads itself, also has the general ones.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_GENERAL_BRANDS = (b"mif1", b"msf1", b"mif2")


class MissingReaderError(ValueError):
    """Raised for a format whose package is not installed."""


def open_image(image_bytes: bytes) -> ImageFile.ImageFile:
    """Opens an image; its pixels are not decoded yet.

    Raises:
      MissingReaderError: the image is HEIF, and pillow-heif is not installed.
      PIL.UnidentifiedImageError: the bytes are no image, or its format is unknown.
      PIL.Image.DecompressionBombError: the image has very many pixels.
    """
    if _is_heif(image_bytes):
        load_heif_reader()
    return Image.open(io.BytesIO(image_bytes))


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
