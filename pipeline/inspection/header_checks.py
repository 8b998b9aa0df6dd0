"""Checks an image by its bytes and its header, before it is decoded."""

import pathlib

from PIL import ImageFile

from pipeline.inspection import gif, sixteen_bits
from pipeline.inspection.formats import (
    CONVERTED_SUFFIXES,
    MAX_PIXELS,
    MULTI_PICTURE,
    SUFFIXES,
    SUFFIXES_OF_SOURCES,
)

_MODE_ODDITIES = {
    "CMYK": "CMYK",
    "L": "grey",
    "LA": "grey",
    "P": "palette",
    "1": "grey",
}
# The values of these modes have no known range, or need more information to be shown.
_UNKNOWN_MODES = {"F": "floating-point values", "LAB": "L*a*b* colours"}

# No program writes a progressive JPEG with more scans. Each scan takes a pass over the
# pixels.
_MAX_JPEG_SCANS = 500
_SCAN = b"\xff\xda"

# The first bytes of a bare codestream and of a container (ISO/IEC 18181-2).
_JPEG_XL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

_MORE_PICTURES = {
    MULTI_PICTURE: "more pictures behind the first: the first counts",
    "TIFF": "several pages: the first counts",
    "HEIF": "several pictures: the main one counts",
}


def find_problem_of_bytes(image_bytes: bytes) -> str | None:
    """Returns why a file cannot be used, by its bytes alone; None if it may be used."""
    if not image_bytes:
        return "empty file"
    if image_bytes.startswith(_JPEG_XL_STARTS):
        return "unsupported format JPEG XL: export it as JPEG"
    if image_bytes.startswith(b"GIF8") and gif.count_pixels(image_bytes) > MAX_PIXELS:
        return f"too large: frames of more than {MAX_PIXELS} pixels"
    return None


def find_problem(
    image_bytes: bytes, opened: ImageFile.ImageFile, min_side_px: int
) -> str | None:
    """Returns why an image cannot be used, by its header; None if it may be used."""
    width, height = opened.size
    if opened.format not in SUFFIXES_OF_SOURCES:
        supported = ", ".join((*SUFFIXES, *CONVERTED_SUFFIXES))
        return f"unsupported format {opened.format} (supported: {supported})"
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels (limit: {MAX_PIXELS} pixels)"
    if min(width, height) < min_side_px:
        return f"too small: {width} x {height} pixels (limit: {min_side_px} a side)"
    # In the data of a scan, the byte 0xFF is never followed by 0xDA.
    if opened.info.get("progressive") and image_bytes.count(_SCAN) > _MAX_JPEG_SCANS:
        return f"damaged: more than {_MAX_JPEG_SCANS} scans"
    if _is_animated(opened) and opened.format == "WEBP":
        return "unsupported: animated WebP"
    if opened.mode in _UNKNOWN_MODES:
        return (
            f"unsupported: {_UNKNOWN_MODES[opened.mode]}; store it with 8 or 16 bits a "
            "channel"
        )
    return None


def find_oddities(
    name: str, image_bytes: bytes, opened: ImageFile.ImageFile
) -> tuple[str, ...]:
    """Returns the unusual properties of an image that can be used.

    name: the relative name of its file.
    """
    oddities = []
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix and suffix not in SUFFIXES_OF_SOURCES[str(opened.format)]:
        oddities.append(f"named '{suffix}' but {opened.format}")
    if _is_animated(opened):
        animated = "animated: the first frame counts"
        oddities.append(_MORE_PICTURES.get(str(opened.format), animated))
    if opened.mode in _MODE_ODDITIES:
        oddities.append(_MODE_ODDITIES[opened.mode])
    if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        oddities.append("alpha")
    if sixteen_bits.is_16_bit(image_bytes, opened):
        oddities.append("16-bit")
    return tuple(oddities)


def _is_animated(opened: ImageFile.ImageFile) -> bool:
    # Not n_frames: to count the pages of a TIFF, Pillow reads all of them.
    return bool(getattr(opened, "is_animated", False))
