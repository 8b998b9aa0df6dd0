"""Looks at every image once: reads, checks, decodes and hashes it."""

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


@dataclasses.dataclass(frozen=True)
class ImageReport:
    """What one look at one image found.

    problem: why it cannot be used, or None; then the rest says what will be stored.
    oddities: what is unusual and dealt with, such as "CMYK" or "rotated by EXIF".
    width, height: pixels, upright.
    file_bytes, stored_bytes: sizes before and after.
    is_stored_as_it_is: the file itself is what is stored.
    file_hash: SHA-256 of the file, the same on every machine.
    perceptual_hash: 256 bits as 32 bytes; see duplicates.perceptual_hash.
    """

    image: SourceImage
    problem: str | None
    oddities: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    file_bytes: int = 0
    stored_bytes: int = 0
    is_stored_as_it_is: bool = False
    file_hash: str = ""
    perceptual_hash: bytes = b""


def inspect_images(
    images: Sequence[SourceImage],
    *,
    min_side_px: int,
    max_side_px: int | None,
    engine: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> list[ImageReport]:
    """Opens every image once, on all cores or on the engine's workers.

    work_dir: where the workers of an engine leave what they find.
    """
    look = functools.partial(
        inspect_image, min_side_px=min_side_px, max_side_px=max_side_px
    )
    if engine is not None:
        parallel.load_tensorflow()
        findings = beam.beam_map(engine, look, images, work_dir=work_dir)
        return sorted(findings, key=lambda finding: finding.image.name)
    # Most folders hold plain JPEGs alone, and then nobody waits for TensorFlow.
    quick_look = functools.partial(look, decode=jpeg.decode_plain_jpeg)
    found = parallel.parallel_map(
        quick_look, images, label="looking at", tensorflow=False
    )
    left = [image for image, seen in zip(images, found, strict=True) if seen is None]
    rest = iter(
        parallel.parallel_map(look, left, label="looking again at", tensorflow=True)
    )
    return [next(rest) if finding is None else finding for finding in found]


def hash_pixels(
    images: Sequence[SourceImage],
    *,
    max_side_px: int | None,
    engine: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> dict[str, str]:
    """Name -> SHA-256 of the decoded pixels as they will be stored; see look_at_all."""
    hash_one = functools.partial(_hash_pixels_of, max_side_px=max_side_px)
    if engine is not None:
        return dict(beam.beam_map(engine, hash_one, images, work_dir=work_dir))
    return dict(
        parallel.parallel_map(hash_one, images, label="comparing", tensorflow=True)
    )


def inspect_image(
    image: SourceImage,
    *,
    min_side_px: int,
    max_side_px: int | None,
    decode: Callable[[bytes, Image.Image], Image.Image | None] = jpeg.decode_grey,
) -> ImageReport | None:
    """Reads, checks, decodes and hashes one image.

    decode: see grey.decode; where it gives None, so does this.
    """
    try:
        image_bytes = image.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return ImageReport(image, f"cannot be read: {reason}")
    finding = ImageReport(image, "empty file", file_bytes=len(image_bytes))
    if not image_bytes:
        return finding
    if image_bytes.startswith(b"GIF8") and gif.count_pixels(image_bytes) > MAX_PIXELS:
        problem = f"too large: frames of more than {MAX_PIXELS} pixels"
        return dataclasses.replace(finding, problem=problem)
    try:
        with Image.open(io.BytesIO(image_bytes)) as opened:
            # From the header alone: a bomb is never decoded.
            problem, oddities = _check_header(image.name, opened, min_side_px)
            finding = dataclasses.replace(finding, problem=problem, oddities=oddities)
            if problem is not None:
                return finding
            return _inspect_pixels(finding, image_bytes, opened, max_side_px, decode)
    except UnidentifiedImageError:
        return dataclasses.replace(finding, problem="not an image")
    except Image.DecompressionBombError:
        problem = f"too large: more than {MAX_PIXELS} pixels"
        return dataclasses.replace(finding, problem=problem)
    except (OSError, SyntaxError, ValueError):
        return dataclasses.replace(finding, problem="damaged: cannot be decoded")


def _inspect_pixels(
    finding: ImageReport,
    image_bytes: bytes,
    opened: Image.Image,
    max_side_px: int | None,
    decode: Callable[[bytes, Image.Image], Image.Image | None],
) -> ImageReport | None:
    to_store = image_bytes
    is_stored_as_it_is = reencoding.is_stored_as_it_is(opened, max_side_px=max_side_px)
    if not is_stored_as_it_is:
        to_store = reencoding.bytes_to_store(image_bytes, max_side_px=max_side_px)
        opened = Image.open(io.BytesIO(to_store))
    width, height = opened.size
    decoded = decode(to_store, opened)
    if decoded is None:
        return None
    return dataclasses.replace(
        finding,
        width=width,
        height=height,
        stored_bytes=len(to_store),
        is_stored_as_it_is=is_stored_as_it_is,
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


def _check_header(
    name: str, opened: Image.Image, min_side_px: int
) -> tuple[str | None, tuple[str, ...]]:
    width, height = opened.size
    animated = getattr(opened, "n_frames", 1) > 1
    if opened.format not in DECODABLE_FORMATS:
        supported = ", ".join(DECODABLE_FORMATS)
        return f"unsupported format {opened.format} (supported: {supported})", ()
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels (limit: {MAX_PIXELS} pixels)", ()
    if min(width, height) < min_side_px:
        return f"too small: {width} x {height} pixels (limit: {min_side_px} a side)", ()
    if animated and opened.format == "WEBP":
        return "unsupported: animated WebP", ()
    oddities = []
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix and suffix not in SUFFIXES[opened.format]:
        oddities.append(f"named '{suffix}' but {opened.format}")
    if animated:
        oddities.append("animated: the first frame counts")
    modes = {"CMYK": "CMYK", "L": "grey", "LA": "grey", "P": "palette", "1": "grey"}
    if opened.mode in modes:
        oddities.append(modes[opened.mode])
    if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        oddities.append("alpha")
    if opened.mode.startswith("I"):
        oddities.append("16-bit")
    if opened.getexif().get(0x0112, 1) in range(2, 9):
        oddities.append("rotated by EXIF: stored upright")
    return None, tuple(oddities)
