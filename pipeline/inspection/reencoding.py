"""Re-encodes the images that cannot be stored as they are."""

import io

from PIL import Image, ImageOps

from pipeline.inspection.formats import ORIENTATION_TAG

_JPEG_QUALITY = 95


def needs_reencoding(opened: Image.Image, *, max_side_px: int | None) -> bool:
    """Returns True if the header shows a rotated image or one that is too large."""
    return is_rotated(opened) or _is_too_large(opened, max_side_px)


def is_rotated(opened: Image.Image) -> bool:
    """Returns True if EXIF tells a viewer to turn or mirror the image."""
    return opened.getexif().get(ORIENTATION_TAG, 1) in range(2, 9)


def _is_too_large(opened: Image.Image, max_side_px: int | None) -> bool:
    return max_side_px is not None and max(opened.size) > max_side_px


def bytes_to_store(image_bytes: bytes, *, max_side_px: int | None) -> bytes:
    """Returns the bytes of the file, re-encoded only if needs_reencoding().

    An image that EXIF rotates is stored upright, because no decoder of TensorFlow reads
    EXIF. An image larger than max_side_px is stored smaller. A JPEG is stored as JPEG,
    every other format as PNG.

    Raises:
      OSError, SyntaxError, ValueError: Pillow cannot decode an image to re-encode.
    """
    with Image.open(io.BytesIO(image_bytes)) as image:
        if not needs_reencoding(image, max_side_px=max_side_px):
            return image_bytes
        too_large = _is_too_large(image, max_side_px)
        is_jpeg = image.format == "JPEG"
        upright = ImageOps.exif_transpose(image)
        if is_jpeg and upright.mode not in ("L", "RGB"):
            upright = upright.convert("RGB")
        if max_side_px is not None and too_large:
            upright.thumbnail((max_side_px, max_side_px))
        file = io.BytesIO()
        # The EXIF data is dropped: its orientation is no longer true.
        if is_jpeg:
            upright.save(file, "JPEG", quality=_JPEG_QUALITY, exif=b"")
        else:
            upright.save(file, "PNG", exif=b"")
    return file.getvalue()
