"""Inspects one image: reads, checks, decodes and hashes it."""

import dataclasses
import enum
import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from pipeline.inspection import (
    header_checks,
    jpeg,
    opening,
    perceptual_hash,
    reencoding,
    sixteen_bits,
)
from pipeline.inspection.formats import MAX_PIXELS
from pipeline.inspection.opening import MissingReaderError, open_image
from pipeline.inspection.quality import Quality, measure_quality
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.images import SourceImage

# Takes the bytes and the opened image; returns the decoded "L" image, or None for an
# image that it does not decode.
GreyDecoder = Callable[[bytes, Image.Image], Image.Image | None]


class Needs(enum.Enum):
    """What an image needs to be inspected, where it could not be inspected."""

    OWN_PROCESS = enum.auto()
    TENSORFLOW = enum.auto()


@dataclasses.dataclass(frozen=True)
class ImageReport:
    """The result of inspecting one image.

    problem: why the image cannot be used; None if it can be. Only without a problem are
      the fields below complete.
    oddities: unusual properties that are handled, such as "CMYK".
    width, height: size of the image to store, in pixels, upright.
    file_bytes, stored_bytes: size of the file, and of the image to store.
    needs_reencoding: the image to store differs from the file.
    sample_bits: of a 16-bit image, the bits that are used; 0 for any other image.
    file_hash: SHA-256 of the file, as hexadecimal digits.
    perceptual_hash: 256 bits as 32 bytes; see perceptual_hash.compute_hash.
    quality: how light, how rich in contrast and how sharp the image to store is; None
      if there is a problem.
    """

    image: SourceImage
    problem: str | None
    oddities: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    file_bytes: int = 0
    stored_bytes: int = 0
    needs_reencoding: bool = True
    sample_bits: int = 0
    file_hash: str = ""
    perceptual_hash: bytes = b""
    quality: Quality | None = None


def inspect_image(
    image: SourceImage,
    *,
    min_side_px: int,
    form: StoredForm = StoredForm(),
    decode: GreyDecoder = jpeg.decode_grey,
    only_common: bool = False,
) -> ImageReport | Needs:
    """Reads, checks, decodes and hashes one image.

    min_side_px, form: see inspect_images.
    decode: decodes the image for the hash.
    only_common: open no image whose decoder may hang or crash; see opening.is_common.

    Returns:
      The report, also of an image that cannot be used; Needs.TENSORFLOW if decode()
      returns None; Needs.OWN_PROCESS if the image is not opened.
    """
    try:
        image_bytes = image.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ImageReport(image, f"cannot be read: {reason}")
    report = ImageReport(image, None, file_bytes=len(image_bytes))
    problem = header_checks.find_problem_of_bytes(image_bytes)
    if problem is not None:
        return dataclasses.replace(report, problem=problem)
    if only_common and not opening.is_common(image_bytes):
        return Needs.OWN_PROCESS
    try:
        with open_image(image_bytes) as opened:
            # The header is checked first, so that a huge image is never decoded.
            problem = header_checks.find_problem(image_bytes, opened, min_side_px)
            if problem is not None:
                return dataclasses.replace(report, problem=problem)
            oddities = header_checks.find_oddities(image.name, image_bytes, opened)
            changes = reencoding.find_changes(image_bytes, opened, form)
            to_store = image_bytes
            if changes.are_needed:
                to_store = reencoding.bytes_to_store(image_bytes, form, changes=changes)
            report = dataclasses.replace(
                report,
                oddities=(*oddities, *changes.notes),
                needs_reencoding=changes.are_needed,
                file_hash=hashlib.sha256(image_bytes).hexdigest(),
                stored_bytes=len(to_store),
                sample_bits=_count_bits(image_bytes, opened, form.sample_bits),
            )
            if to_store is image_bytes:
                return _inspect_pixels(report, to_store, opened, decode=decode)
        with open_image(to_store) as opened:
            return _inspect_pixels(report, to_store, opened, decode=decode)
    except MissingReaderError as error:
        return dataclasses.replace(report, problem=str(error))
    except UnidentifiedImageError:
        return dataclasses.replace(report, problem="not an image")
    except Image.DecompressionBombError:
        problem = f"too large: more than {MAX_PIXELS / 1e6:g} million pixels"
        return dataclasses.replace(report, problem=problem)
    except (OSError, SyntaxError, ValueError):
        return dataclasses.replace(report, problem="damaged: cannot be decoded")


def _count_bits(
    image_bytes: bytes, opened: ImageFile.ImageFile, sample_bits: int | None
) -> int:
    """Returns sample_bits or, if it is None, the bits that the image uses.

    The result is 0 for an image that does not have 16 bits.
    """
    if not sixteen_bits.is_16_bit(image_bytes, opened):
        return 0
    if sample_bits is not None:
        return sample_bits
    return sixteen_bits.count_bits(sixteen_bits.read_samples(image_bytes))


def _inspect_pixels(
    report: ImageReport, to_store: bytes, opened: Image.Image, *, decode: GreyDecoder
) -> ImageReport | Needs:
    """Adds size, hash and quality to a report; see inspect_image."""
    width, height = opened.size
    decoded = decode(to_store, opened)
    if decoded is None:
        return Needs.TENSORFLOW
    small = perceptual_hash.shrink(decoded)
    is_enlarged = min(width, height) < perceptual_hash.SMALL_SIDE
    return dataclasses.replace(
        report,
        width=width,
        height=height,
        perceptual_hash=np.packbits(perceptual_hash.hash_small(small)).tobytes(),
        quality=measure_quality(small, is_enlarged=is_enlarged),
    )
