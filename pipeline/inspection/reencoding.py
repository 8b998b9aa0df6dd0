"""Re-encodes the images that cannot be stored as they are.

The preparation and export.client use the same function, so that a model gets the same
pixels of a photograph in training and in a request.
"""

import dataclasses
import io

from PIL import Image, ImageFile, ImageOps

from pipeline.inspection import (
    colour_profiles,
    heif_boxes,
    jpeg_xl,
    sixteen_bits,
    transparency,
)
from pipeline.inspection.formats import (
    CONVERTED_SUFFIXES,
    MAX_PIXELS,
    MULTI_PICTURE,
    ORIENTATION_TAG,
)
from pipeline.inspection.opening import open_image

_JPEG_QUALITY = 95
_STORED_AS = {"JPEG": f"JPEG of quality {_JPEG_QUALITY}", "PNG": "PNG"}

# The compressions of a TIFF that lose information, under the names of Pillow.
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp", "jp2000")


def is_rotated(opened: ImageFile.ImageFile) -> bool:
    """Returns True if EXIF tells a viewer to turn or mirror the image."""
    return opened.getexif().get(ORIENTATION_TAG, 1) in range(2, 9)


@dataclasses.dataclass(frozen=True)
class StoredForm:
    """How images are stored, in words of the flags.

    max_side_px: a larger image is stored smaller; None stores every size.
    sample_bits: the bits that 16-bit images use; None or 16: all of them.
    background: what is seen behind transparent pixels; see transparency.BACKGROUNDS.
    """

    max_side_px: int | None = None
    sample_bits: int | None = None
    background: str = "white"


def depends_on_form(image_bytes: bytes) -> bool:
    """Tells by the header whether background or sample bits may change an image.

    Raises:
      OSError, SyntaxError, ValueError: Pillow cannot open the image.
    """
    with open_image(image_bytes) as opened:
        return transparency.may_be_transparent(opened) or sixteen_bits.is_16_bit(
            image_bytes, opened
        )


@dataclasses.dataclass(frozen=True)
class Changes:
    """What must be changed before an image is stored.

    notes: the changes in words, except that of the size.
    to_srgb: the colours are converted by the profile.
    smaller: the image is stored smaller.
    """

    notes: tuple[str, ...]
    to_srgb: bool
    smaller: bool

    @property
    def are_needed(self) -> bool:
        """Returns True if the image must be re-encoded before it is stored."""
        return self.smaller or bool(self.notes)


def find_changes(
    image_bytes: bytes, opened: ImageFile.ImageFile, form: StoredForm
) -> Changes:
    """Returns what must be changed before an image is stored: nothing for most images.

    An image with an alpha channel or with a wide-gamut colour profile is decoded; all
    others are checked by their header alone.

    Args:
      image_bytes: the file.
      opened: the same image, of which Pillow has read only the header.
      form: how it is stored.

    Raises:
      OSError, SyntaxError, ValueError: Pillow cannot decode the image.
    """
    notes = []
    stored_as = _STORED_AS[_find_stored_format(image_bytes, opened)]
    if opened.format in CONVERTED_SUFFIXES:
        notes.append(f"{opened.format}: stored as {stored_as}")
    if is_rotated(opened):
        notes.append("rotated by EXIF: stored upright")
    bits = form.sample_bits
    if bits not in (None, 16) and sixteen_bits.is_16_bit(image_bytes, opened):
        notes.append(f"{bits} of 16 bits used: stored with the upper 8 of them")
    if transparency.may_be_transparent(opened):
        with open_image(image_bytes) as image:
            if transparency.is_transparent(image):
                notes.append(f"transparent: stored on {_describe(form.background)}")
            elif opened.format == "WEBP":  # TensorFlow reads none with alpha.
                notes.append(f"WebP with an alpha channel: stored as {stored_as}")
    to_srgb = False
    if colour_profiles.may_differ(opened):
        with open_image(image_bytes) as image:
            difference = colour_profiles.measure_difference(image)
        to_srgb = difference > colour_profiles.VISIBLE_DIFFERENCE
        if to_srgb:
            profile = colour_profiles.describe_profile(opened)
            notes.append(f"{profile}: colours converted to sRGB")
    limit_px = form.max_side_px
    smaller = limit_px is not None and max(opened.size) > limit_px
    return Changes(tuple(notes), to_srgb, smaller)


def _describe(background: str) -> str:
    return "its mean colour" if background == "mean" else background


def bytes_to_store(
    image_bytes: bytes, form: StoredForm, *, changes: Changes | None = None
) -> bytes:
    """Returns the bytes of the file, re-encoded only if find_changes() finds a change.

    What is re-encoded is upright, because no decoder of TensorFlow reads EXIF; opaque;
    and in sRGB where the colour profile makes a visible difference. An image that was
    compressed with loss is stored as JPEG, any other as PNG.

    changes: what find_changes() has found, if it was called before; it may decode.

    Raises:
      OSError, SyntaxError, ValueError: the image has too many pixels, or Pillow cannot
        decode it to re-encode it.
    """
    with open_image(image_bytes) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS} pixels")
        changes = changes or find_changes(image_bytes, opened, form)
        if not changes.are_needed:
            return image_bytes
        stored_format = _find_stored_format(image_bytes, opened)
    with open_image(image_bytes) as image:
        if sixteen_bits.is_16_bit(image_bytes, image):
            samples = sixteen_bits.read_samples(image_bytes)
            plain = sixteen_bits.to_8_bits(samples, bits=form.sample_bits or 16)
            plain.getexif()[ORIENTATION_TAG] = image.getexif().get(ORIENTATION_TAG, 1)
            upright = ImageOps.exif_transpose(plain)
        else:
            upright = ImageOps.exif_transpose(image)
            upright = _to_plain(upright, form, to_srgb=changes.to_srgb)
    if form.max_side_px is not None and changes.smaller:
        upright.thumbnail((form.max_side_px, form.max_side_px))
    file = io.BytesIO()
    # EXIF data and profile are dropped: they are no longer true.
    if stored_format == "JPEG":
        upright.save(file, "JPEG", quality=_JPEG_QUALITY, exif=b"")
    else:
        upright.save(file, "PNG", exif=b"", icc_profile=None)
    return file.getvalue()


def _to_plain(image: Image.Image, form: StoredForm, *, to_srgb: bool) -> Image.Image:
    """Returns an opaque "L" or "RGB" image."""
    plain = colour_profiles.convert_to_srgb(image) if to_srgb else image
    if transparency.may_be_transparent(image):
        alpha = transparency.get_alpha(image)
        plain = transparency.put_on_background(plain, alpha, form.background)
    if plain.mode == "1":
        return plain.convert("L")
    return plain if plain.mode in ("L", "RGB") else plain.convert("RGB")


def _find_stored_format(image_bytes: bytes, opened: ImageFile.ImageFile) -> str:
    """Returns the format of the image once it is re-encoded: "JPEG" or "PNG"."""
    if opened.format == "WEBP":
        is_lossy = _find_webp_bitstream(image_bytes) != b"VP8L"
    elif opened.format == "TIFF":
        is_lossy = opened.info.get("compression") in _LOSSY_TIFF
    elif opened.format == "JPEG2000":
        is_lossy = not _is_reversible_jpeg2000(image_bytes)
    elif opened.format == "JXL":  # It may hold a JPEG, which has no XYB.
        is_jpeg = getattr(opened, "jpeg", False)
        is_lossy = is_jpeg or bool(jpeg_xl.read_header(image_bytes).is_lossy)
    elif opened.format in ("HEIF", "AVIF"):
        is_lossy = not heif_boxes.may_be_lossless(image_bytes)
    else:
        is_lossy = opened.format in ("JPEG", MULTI_PICTURE)
    return "JPEG" if is_lossy else "PNG"


def _find_webp_bitstream(image_bytes: bytes) -> bytes:
    """Returns the name of the chunk of the first frame: b"VP8 ", b"VP8L" or b""."""
    at = 12
    while at + 8 <= len(image_bytes):
        name = image_bytes[at : at + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name
        size = int.from_bytes(image_bytes[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return b""


def _is_reversible_jpeg2000(image_bytes: bytes) -> bool:
    """Tells whether the wavelet of a JPEG 2000 is the one without loss (T.800, A.6.1).

    For this wavelet, byte 13 of the segment COD is 1, counted from its marker.
    """
    at = image_bytes.find(b"\xff\x52\x00")
    return at >= 0 and image_bytes[at + 13 : at + 14] == b"\x01"
