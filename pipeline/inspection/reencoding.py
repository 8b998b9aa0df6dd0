"""stored_bytes(): what of an image file goes into the records."""

import io

from PIL import Image, ImageOps

_JPEG_QUALITY = 95
_ORIENTATION_TAG = 0x0112


def is_stored_as_it_is(opened: Image.Image, *, max_side_px: int | None) -> bool:
    """Whether the file itself will do, by its header: upright and small enough."""
    rotated = opened.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)
    return not rotated and not _is_too_large(opened, max_side_px)


def _is_too_large(opened: Image.Image, max_side_px: int | None) -> bool:
    return max_side_px is not None and max(opened.size) > max_side_px


def bytes_to_store(image_bytes: bytes, *, max_side_px: int | None) -> bytes:
    """The file itself, or a re-encoding where the file itself would not do.

    A picture that EXIF says to rotate is stored upright, because no TensorFlow decoder
    reads EXIF; one larger than max_side_px is stored smaller. Both as JPEG where the
    file is one, else as PNG.

    Raises:
      OSError, SyntaxError, ValueError: Pillow cannot decode what it has to re-encode.
    """
    with Image.open(io.BytesIO(image_bytes)) as image:
        if is_stored_as_it_is(image, max_side_px=max_side_px):
            return image_bytes
        too_large = _is_too_large(image, max_side_px)
        is_jpeg = image.format == "JPEG"
        upright = ImageOps.exif_transpose(image)
        if is_jpeg and upright.mode not in ("L", "RGB"):
            upright = upright.convert("RGB")
        if too_large:
            upright.thumbnail((max_side_px, max_side_px))
        file = io.BytesIO()
        # No EXIF goes along: what it said of the orientation no longer holds.
        if is_jpeg:
            upright.save(file, "JPEG", quality=_JPEG_QUALITY, exif=b"")
        else:
            upright.save(file, "PNG", exif=b"")
    return file.getvalue()
