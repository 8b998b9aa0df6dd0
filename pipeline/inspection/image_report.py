"""Inspects every image once: reads, checks, decodes and hashes it."""

import dataclasses
import functools
import hashlib
import io
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.inspection import gif, jpeg, perceptual_hash, reencoding
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS, SUFFIXES
from pipeline.sources.images import SourceImage
from pipeline.system import beam, parallel
from pipeline.system.beam import BeamRunner

# Returns a decoded "L" image, or None for an image that it cannot judge.
GreyDecoder = Callable[[bytes, Image.Image], Image.Image | None]

_MODE_ODDITIES = {
    "CMYK": "CMYK",
    "L": "grey",
    "LA": "grey",
    "P": "palette",
    "1": "grey",
}


@dataclasses.dataclass(frozen=True)
class ImageReport:
    """The result of inspecting one image.

    problem: why the image cannot be used; None if it can. The fields below are only
      complete if it is None.
    oddities: unusual properties that are handled, such as "CMYK".
    width, height: size of the image to store, in pixels, upright.
    file_bytes, stored_bytes: size of the file, and of the image to store.
    needs_reencoding: the image to store differs from the file.
    file_hash: SHA-256 of the file, as hexadecimal digits.
    perceptual_hash: 256 bits as 32 bytes; see perceptual_hash.compute_hash.
    """

    image: SourceImage
    problem: str | None
    oddities: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    file_bytes: int = 0
    stored_bytes: int = 0
    needs_reencoding: bool = True
    file_hash: str = ""
    perceptual_hash: bytes = b""


def inspect_images(
    images: Sequence[SourceImage],
    *,
    min_side_px: int,
    max_side_px: int | None,
    beam_runner: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> list[ImageReport]:
    """Inspects every image once, on all cores or on the workers of a Beam runner.

    Args:
      images: the images, sorted by name.
      min_side_px: smaller images get a problem.
      max_side_px: larger images will be stored smaller; None stores every size.
      beam_runner: None uses the cores of this machine.
      work_dir: where the workers of the Beam runner write their results.

    Returns:
      One report per image, in the order of the images.
    """
    inspect = functools.partial(
        inspect_image, min_side_px=min_side_px, max_side_px=max_side_px
    )
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
        label="inspecting",
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
        label="inspecting with TensorFlow",
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
    max_side_px: int | None,
    beam_runner: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> dict[str, str]:
    """Returns name -> SHA-256 of the decoded pixels of the image to store.

    The arguments are those of inspect_images.
    """
    hash_image = functools.partial(_hash_pixels_of, max_side_px=max_side_px)
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
    max_side_px: int | None,
    decode: GreyDecoder = jpeg.decode_grey,
) -> ImageReport | None:
    """Reads, checks, decodes and hashes one image; None if decode() returns None."""
    try:
        image_bytes = image.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ImageReport(image, f"cannot be read: {reason}")
    report = ImageReport(image, None, file_bytes=len(image_bytes))
    if not image_bytes:
        return dataclasses.replace(report, problem="empty file")
    if image_bytes.startswith(b"GIF8") and gif.count_pixels(image_bytes) > MAX_PIXELS:
        problem = f"too large: frames of more than {MAX_PIXELS} pixels"
        return dataclasses.replace(report, problem=problem)
    try:
        with Image.open(io.BytesIO(image_bytes)) as opened:
            # The header is checked first, so that a huge image is never decoded.
            header_problem = _find_header_problem(opened, min_side_px)
            if header_problem is not None:
                return dataclasses.replace(report, problem=header_problem)
            oddities = _find_oddities(image.name, opened)
            report = dataclasses.replace(report, oddities=oddities)
            return _inspect_pixels(
                report, image_bytes, opened, max_side_px=max_side_px, decode=decode
            )
    except UnidentifiedImageError:
        return dataclasses.replace(report, problem="not an image")
    except Image.DecompressionBombError:
        problem = f"too large: more than {MAX_PIXELS} pixels"
        return dataclasses.replace(report, problem=problem)
    except (OSError, SyntaxError, ValueError):
        return dataclasses.replace(report, problem="damaged: cannot be decoded")


def _inspect_pixels(
    report: ImageReport,
    image_bytes: bytes,
    opened: Image.Image,
    *,
    max_side_px: int | None,
    decode: GreyDecoder,
) -> ImageReport | None:
    """Returns the report with sizes and hashes; None if decode() returns None."""
    to_store = image_bytes
    needs_reencoding = reencoding.needs_reencoding(opened, max_side_px=max_side_px)
    if needs_reencoding:
        to_store = reencoding.bytes_to_store(image_bytes, max_side_px=max_side_px)
        opened = Image.open(io.BytesIO(to_store))
    width, height = opened.size
    decoded = decode(to_store, opened)
    if decoded is None:
        return None
    return dataclasses.replace(
        report,
        width=width,
        height=height,
        stored_bytes=len(to_store),
        needs_reencoding=needs_reencoding,
        file_hash=hashlib.sha256(image_bytes).hexdigest(),
        perceptual_hash=np.packbits(perceptual_hash.compute_hash(decoded)).tobytes(),
    )


def _hash_pixels_of(image: SourceImage, *, max_side_px: int | None) -> tuple[str, str]:
    import tensorflow as tf

    from pipeline import decoding

    to_store = reencoding.bytes_to_store(image.read(), max_side_px=max_side_px)
    pixels = decoding.decode(tf.constant(to_store)).numpy()
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(pixels.data)
    return image.name, digest.hexdigest()


def _is_animated(opened: Image.Image) -> bool:
    return getattr(opened, "n_frames", 1) > 1


def _find_header_problem(opened: Image.Image, min_side_px: int) -> str | None:
    width, height = opened.size
    if opened.format not in DECODABLE_FORMATS:
        supported = ", ".join(DECODABLE_FORMATS)
        return f"unsupported format {opened.format} (supported: {supported})"
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels (limit: {MAX_PIXELS} pixels)"
    if min(width, height) < min_side_px:
        return f"too small: {width} x {height} pixels (limit: {min_side_px} a side)"
    if _is_animated(opened) and opened.format == "WEBP":
        return "unsupported: animated WebP"
    return None


def _find_oddities(name: str, opened: Image.Image) -> tuple[str, ...]:
    oddities = []
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix and suffix not in SUFFIXES[str(opened.format)]:
        oddities.append(f"named '{suffix}' but {opened.format}")
    if _is_animated(opened):
        oddities.append("animated: the first frame counts")
    if opened.mode in _MODE_ODDITIES:
        oddities.append(_MODE_ODDITIES[opened.mode])
    if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        oddities.append("alpha")
    if opened.mode.startswith("I"):
        oddities.append("16-bit")
    if reencoding.is_rotated(opened):
        oddities.append("rotated by EXIF: stored upright")
    return tuple(oddities)
