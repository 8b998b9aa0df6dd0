"""Checks an image by its bytes and its header, before it is decoded."""

import pathlib
import re

from PIL import ImageFile

from pipeline.inspection import gif, jpeg, jpeg_xl, sixteen_bits
from pipeline.inspection.formats import (
    CONVERTED_SUFFIXES,
    MAX_PIXELS,
    MULTI_PICTURE,
    SUFFIXES,
    SUFFIXES_OF_SOURCES,
)

_MILLION_PIXELS = f"{MAX_PIXELS / 1e6:g} million pixels"

_MODE_ODDITIES = {
    "CMYK": "CMYK",
    "L": "grey",
    "LA": "grey",
    "P": "palette",
    "1": "grey",
}
# The values of these modes have no known range, or need more information to be shown.
_UNKNOWN_MODES = {"F": "floating-point values", "LAB": "L*a*b* colours"}

# More scans of a JPEG than any program writes. Each one costs a pass over the pixels.
_MAX_JPEG_SCANS = 100
_SCAN = b"\xff\xda"

# Programs write chunks of 8 KiB and more. Each one costs Pillow some microseconds.
_MAX_PNG_CHUNKS = 1_000_000

# Its arithmetic decoder needs some 0.25 seconds a megabyte, whatever the pixels are.
_MAX_JPEG_2000_BYTES = 1 << 26

# What is often found under the name of a photograph.
_OTHER_FILES = (
    (re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE), "a web page"),
    (
        re.compile(rb"version https://git-lfs"),
        "a pointer of Git LFS: run git lfs pull",
    ),
    (re.compile(rb"%PDF-"), "a PDF"),
    (re.compile(rb"....ftyp(isom|iso2|mp4|M4V|qt  |3gp)", re.DOTALL), "a film"),
)

_MORE_PICTURES = {
    MULTI_PICTURE: "more pictures behind the first: the first counts",
    "TIFF": "several pages: the first counts",
    "HEIF": "several pictures: the main one counts",
}


def find_problem_of_bytes(image_bytes: bytes) -> str | None:
    """Returns why a file cannot be used, by its bytes alone; None if it may be used."""
    if not image_bytes:
        return "empty file"
    for start, kind in _OTHER_FILES:
        if start.match(image_bytes):
            return f"not an image, but {kind}"
    if jpeg_xl.is_jpeg_xl(image_bytes):
        return _find_problem_of_jpeg_xl(image_bytes)
    if image_bytes.startswith(b"GIF8") and gif.count_pixels(image_bytes) > MAX_PIXELS:
        return f"too large: frames of more than {_MILLION_PIXELS}"
    return None


def _find_problem_of_jpeg_xl(image_bytes: bytes) -> str | None:
    try:
        header = jpeg_xl.read_header(image_bytes)
    except ValueError:
        return "damaged: cannot be decoded"
    return "unsupported: animated JPEG XL" if header.is_animated else None


def find_problem(
    image_bytes: bytes, opened: ImageFile.ImageFile, min_side_px: int
) -> str | None:
    """Returns why an image cannot be used, by its header; None if it may be used."""
    width, height = opened.size
    if opened.format not in SUFFIXES_OF_SOURCES:
        supported = ", ".join((*SUFFIXES, *CONVERTED_SUFFIXES))
        return f"unsupported format {opened.format} (supported: {supported})"
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels (limit: {_MILLION_PIXELS})"
    if opened.format == "JPEG2000" and len(image_bytes) > _MAX_JPEG_2000_BYTES:
        size, limit = (n / 2**20 for n in (len(image_bytes), _MAX_JPEG_2000_BYTES))
        return f"too large: {size:.1f} MiB (limit: {limit:g} MiB)"
    if min(width, height) < min_side_px:
        return f"too small: {width} x {height} pixels (limit: {min_side_px} a side)"
    # The markers are walked only where they could be too many.
    if (
        opened.format in ("JPEG", MULTI_PICTURE)
        and image_bytes.count(_SCAN) > _MAX_JPEG_SCANS
        and jpeg.count_scans(image_bytes) > _MAX_JPEG_SCANS
    ):
        return f"damaged: more than {_MAX_JPEG_SCANS} scans"
    if opened.format == "PNG" and image_bytes.count(b"IDAT") > _MAX_PNG_CHUNKS:
        return f"damaged: more than {_MAX_PNG_CHUNKS:,} chunks"
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
