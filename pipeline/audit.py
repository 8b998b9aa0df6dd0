"""Looks at every image once: what cannot be used, and what is there twice."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import os
import warnings
from collections.abc import Sequence

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from pipeline import console, preprocess
from pipeline.sources import SourceImage

# Decoding allocates what the header says: 12 bytes a pixel by the time it is float32.
MAX_PIXELS = 100_000_000


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one look at one image found.

    problem: why it cannot be used, or None.
    file_hash: SHA-256 of the file, the same on every machine.
    pixel_hash: SHA-256 of the decoded pixels, so that the same picture with other
      metadata is still the same picture; None where there is a problem.
    """

    image: SourceImage
    problem: str | None
    file_hash: str = ""
    pixel_hash: str | None = None


@dataclasses.dataclass(frozen=True)
class Audit:
    """What the look at all images found.

    usable: the images to write, in the order of the source.
    group_of: name -> group key for each of them; duplicates share a key.
    rejected: name -> reason, for images that cannot be used.
    duplicates: the names of each group of more than one image.
    conflicts: the names of each group filed under more than one class; none of them
      is usable, because nobody can tell which of the labels is right.
    """

    usable: list[SourceImage]
    group_of: dict[str, str]
    rejected: dict[str, str]
    duplicates: list[list[str]]
    conflicts: list[list[str]]


def audit_images(images: Sequence[SourceImage]) -> Audit:
    """Opens every image once, on all cores."""
    with (
        warnings.catch_warnings(),
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        # Pillow's limit is below ours, which _header_problem applies.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        findings = list(
            console.track(
                pool.map(_look_at, images),
                total=len(images),
                label="looking at",
                unit="images",
            )
        )
    by_pixels = collections.defaultdict(list)
    for finding in findings:
        if finding.problem is None:
            by_pixels[finding.pixel_hash].append(finding)
    groups = [group for group in by_pixels.values() if len(group) > 1]
    conflicts = [g for g in groups if len({finding.image.label for finding in g}) > 1]
    in_conflict = {finding.pixel_hash for group in conflicts for finding in group}
    usable = [
        f for f in findings if f.problem is None and f.pixel_hash not in in_conflict
    ]
    return Audit(
        usable=[finding.image for finding in usable],
        group_of={
            # The smallest hash of the files: no renaming or reordering changes it.
            finding.image.name: min(f.file_hash for f in by_pixels[finding.pixel_hash])
            for finding in usable
        },
        rejected={f.image.name: f.problem for f in findings if f.problem is not None},
        duplicates=[[f.image.name for f in g] for g in groups if g not in conflicts],
        conflicts=[[finding.image.name for finding in group] for group in conflicts],
    )


def _look_at(image: SourceImage) -> Finding:
    try:
        image_bytes = image.read()
    except OSError as error:
        return Finding(image, f"cannot be read: {error.strerror}")
    problem = _header_problem(image_bytes)
    if problem is not None:
        return Finding(image, problem)
    try:
        pixels = preprocess.decode(tf.constant(image_bytes)).numpy()
    except tf.errors.InvalidArgumentError:
        return Finding(image, "damaged: cannot be decoded")
    pixel_hash = hashlib.sha256(str(pixels.shape).encode())
    pixel_hash.update(pixels.data)
    return Finding(
        image,
        problem=None,
        file_hash=hashlib.sha256(image_bytes).hexdigest(),
        pixel_hash=pixel_hash.hexdigest(),
    )


def _header_problem(image_bytes: bytes) -> str | None:
    """Reads the header alone, so that a decompression bomb costs nothing."""
    if not image_bytes:
        return "empty file"
    try:
        with Image.open(io.BytesIO(image_bytes)) as opened:
            image_format, (width, height) = opened.format, opened.size
    except UnidentifiedImageError:
        return "not an image"
    except Image.DecompressionBombError:
        return f"too large: more than {MAX_PIXELS} pixels"
    except (OSError, SyntaxError, ValueError) as error:
        return f"damaged: {error}"
    if image_format not in preprocess.DECODABLE_FORMATS:
        supported = ", ".join(preprocess.DECODABLE_FORMATS)
        return f"unsupported format {image_format} (supported: {supported})"
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels (limit: {MAX_PIXELS} pixels)"
    return None
