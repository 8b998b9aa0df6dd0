"""Inspects every image once: reads, checks, decodes and hashes it."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from pipeline.inspection import (
    header_checks,
    jpeg,
    perceptual_hash,
    reencoding,
    sixteen_bits,
)
from pipeline.inspection.formats import MAX_PIXELS
from pipeline.inspection.opening import MissingReaderError, open_image
from pipeline.inspection.quality import Quality, measure_quality
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.images import SourceImage
from pipeline.system import beam, parallel
from pipeline.system.beam import BeamRunner

# Takes the bytes and the opened image; returns the decoded "L" image, or None for an
# image that it does not decode.
GreyDecoder = Callable[[bytes, Image.Image], Image.Image | None]


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


def inspect_images(
    images: Sequence[SourceImage],
    *,
    min_side_px: int,
    form: StoredForm = StoredForm(),
    beam_runner: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> list[ImageReport]:
    """Inspects every image, on all cores or on the workers of a Beam runner.

    Args:
      images: the images, sorted by name.
      min_side_px: smaller images get a problem.
      form: how the images will be stored. Without sample_bits these are found out: the
        most that any 16-bit image uses. If that is less than 16, these images are
        inspected again.
      beam_runner: None uses the cores of this machine.
      work_dir: where the workers of the Beam runner write their results.

    Returns:
      One report per image, in the order of the images. The reports of 16-bit images
      have the sample_bits that all these images are stored with.
    """
    inspect = functools.partial(inspect_image, min_side_px=min_side_px)
    run = functools.partial(_inspect_each, beam_runner=beam_runner, work_dir=work_dir)
    reports = run(images, functools.partial(inspect, form=form), label="inspecting")
    found_bits = find_sample_bits(reports)
    if found_bits is None or form.sample_bits is not None:
        return reports
    again = [r.image for r in reports if r.sample_bits]
    if found_bits < 16:
        form = dataclasses.replace(form, sample_bits=found_bits)
        inspect = functools.partial(inspect, form=form)
        report_of = {
            report.image.name: report
            for report in run(again, inspect, label="inspecting 16-bit images")
        }
        reports = [report_of.get(report.image.name, report) for report in reports]
    return [
        dataclasses.replace(report, sample_bits=found_bits)
        if report.sample_bits
        else report
        for report in reports
    ]


def find_sample_bits(reports: Sequence[ImageReport]) -> int | None:
    """Returns the most bits that any 16-bit image uses; None without such an image."""
    return max((report.sample_bits for report in reports), default=0) or None


def _inspect_each(
    images: Sequence[SourceImage],
    inspect: Callable[..., ImageReport | None],
    *,
    label: str,
    beam_runner: BeamRunner | None,
    work_dir: pathlib.Path | None,
) -> list[ImageReport]:
    if beam_runner is not None and work_dir is not None:
        parallel.load_tensorflow()
        beam_reports = beam.beam_map(beam_runner, inspect, images, work_dir=work_dir)
        return sorted(
            (report for report in beam_reports if report is not None),
            key=lambda report: report.image.name,
        )
    # Most folders hold only plain JPEG files, which are checked without TensorFlow.
    quick_reports = parallel.parallel_map(
        functools.partial(inspect, decode=jpeg.decode_plain_jpeg),
        images,
        label=label,
        unit="images",
        needs_tensorflow=False,
        preload=__name__,
    )
    other_images = [
        image
        for image, report in zip(images, quick_reports, strict=True)
        if report is None
    ]
    other_reports = parallel.parallel_map(
        inspect,
        other_images,
        label=f"{label} with TensorFlow",
        unit="images",
        needs_tensorflow=True,
        preload=__name__,
    )
    report_of = {
        report.image.name: report
        for report in (*quick_reports, *other_reports)
        if report is not None
    }
    return [report_of[image.name] for image in images]


def hash_pixels(
    images: Sequence[SourceImage],
    *,
    form: StoredForm,
    beam_runner: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> dict[str, str]:
    """Returns name -> SHA-256 of the decoded pixels of the image to store.

    The arguments are those of inspect_images.
    """
    hash_image = functools.partial(_hash_pixels_of, form=form)
    if beam_runner is not None and work_dir is not None:
        return dict(beam.beam_map(beam_runner, hash_image, images, work_dir=work_dir))
    return dict(
        parallel.parallel_map(
            hash_image,
            images,
            label="comparing",
            unit="images",
            needs_tensorflow=True,
            preload=__name__,
        )
    )


def inspect_image(
    image: SourceImage,
    *,
    min_side_px: int,
    form: StoredForm = StoredForm(),
    decode: GreyDecoder = jpeg.decode_grey,
) -> ImageReport | None:
    """Reads, checks, decodes and hashes one image.

    min_side_px, form: see inspect_images.
    decode: decodes the image for the hash.

    Returns:
      The report, also of an image that cannot be used; None if decode() returns None.
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
        problem = f"too large: more than {MAX_PIXELS} pixels"
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
) -> ImageReport | None:
    """Adds size, hash and quality to a report; None if decode() returns None."""
    width, height = opened.size
    decoded = decode(to_store, opened)
    if decoded is None:
        return None
    small = perceptual_hash.shrink(decoded)
    is_enlarged = min(width, height) < perceptual_hash.SMALL_SIDE
    return dataclasses.replace(
        report,
        width=width,
        height=height,
        perceptual_hash=np.packbits(perceptual_hash.hash_small(small)).tobytes(),
        quality=measure_quality(small, is_enlarged=is_enlarged),
    )


def _hash_pixels_of(image: SourceImage, *, form: StoredForm) -> tuple[str, str]:
    import tensorflow as tf

    from pipeline import decoding

    to_store = reencoding.bytes_to_store(image.read(), form)
    pixels = decoding.decode(tf.constant(to_store)).numpy()
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(pixels.data)
    return image.name, digest.hexdigest()
