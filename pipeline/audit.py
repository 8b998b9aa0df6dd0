"""Looks at every image once: what cannot be used, what is odd, what is there twice."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import itertools
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError
from scipy import sparse

from pipeline import console, duplicates, preprocess, stored
from pipeline.engine import Engine, run_map
from pipeline.sources import SourceImage

# Decoding allocates what the header says: 12 bytes a pixel by the time it is float32.
MAX_PIXELS = 100_000_000

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one look at one image found.

    problem: why it cannot be used, or None; then the rest says what will be stored.
    oddities: what is unusual and dealt with, such as "CMYK" or "rotated by EXIF".
    width, height: pixels, upright.
    file_bytes, stored_bytes: sizes before and after.
    file_hash: SHA-256 of the file, the same on every machine.
    pixel_hash: SHA-256 of the decoded pixels, so that the same picture with other
      metadata is still the same picture.
    perceptual_hash: 256 bits as 32 bytes; see duplicates.perceptual_hash.
    """

    image: SourceImage
    problem: str | None
    oddities: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    file_bytes: int = 0
    stored_bytes: int = 0
    file_hash: str = ""
    pixel_hash: str = ""
    perceptual_hash: bytes = b""


@dataclasses.dataclass(frozen=True)
class Audit:
    """What the look at all images found, and what is done about it.

    readable: the findings of all images without a problem.
    usable: those of the images to write, in the order of the source.
    group_of: name -> group key for each of them; near duplicates share a key.
    rejected: the findings that have a problem.
    copies: [kept, dropped, ...]: names of images of one class with equal pixels.
    near_duplicates: names of each group of different images of one picture.
    conflicts: names of each group of one picture filed under several classes.
    """

    readable: list[Finding]
    usable: list[Finding]
    group_of: dict[str, str]
    rejected: list[Finding]
    copies: list[list[str]]
    near_duplicates: list[list[str]]
    conflicts: list[list[str]]


def look_at_all(
    images: Sequence[SourceImage],
    *,
    min_side_px: int,
    max_side_px: int | None,
    engine: Engine | None = None,
    work_dir: pathlib.Path | None = None,
) -> list[Finding]:
    """Opens every image once, on all cores or on the engine's workers.

    work_dir: where the workers of an engine leave what they find.
    """
    look = functools.partial(look_at, min_side_px=min_side_px, max_side_px=max_side_px)
    if engine is not None:
        findings = run_map(engine, look, images, work_dir=work_dir)
        return sorted(findings, key=lambda finding: finding.image.name)
    workers = os.cpu_count() or 1
    with (
        warnings.catch_warnings(),
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        # Pillow warns of sizes below our own limit and of odd metadata.
        warnings.simplefilter("ignore")
        looks = _map_bounded(pool, look, images, ahead=8 * workers)
        return list(
            console.track(looks, total=len(images), label="looking at", unit="images")
        )


def _map_bounded(
    pool: concurrent.futures.Executor, function, items: Iterable, *, ahead: int
) -> Iterator:
    """pool.map in order, with no more than `ahead` calls waiting: memory stays flat."""
    items = iter(items)
    waiting = collections.deque(
        pool.submit(function, item) for item in itertools.islice(items, ahead)
    )
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(
            pool.submit(function, item) for item in itertools.islice(items, 1)
        )


def look_at(
    image: SourceImage, *, min_side_px: int, max_side_px: int | None
) -> Finding:
    """Reads, checks, decodes and hashes one image."""
    try:
        image_bytes = image.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Finding(image, f"cannot be read: {reason}")
    problem, oddities = _look_at_header(image.name, image_bytes, min_side_px)
    if problem is not None:
        return Finding(image, problem, oddities, file_bytes=len(image_bytes))
    try:
        to_store = stored.stored_bytes(image_bytes, max_side_px=max_side_px)
        pixels = preprocess.decode(tf.constant(to_store)).numpy()
    except (tf.errors.InvalidArgumentError, OSError, SyntaxError, ValueError):
        return Finding(
            image,
            "damaged: cannot be decoded",
            oddities,
            file_bytes=len(image_bytes),
        )
    pixel_hash = hashlib.sha256(str(pixels.shape).encode())
    pixel_hash.update(pixels.data)
    return Finding(
        image,
        problem=None,
        oddities=oddities,
        width=pixels.shape[1],
        height=pixels.shape[0],
        file_bytes=len(image_bytes),
        stored_bytes=len(to_store),
        file_hash=hashlib.sha256(image_bytes).hexdigest(),
        pixel_hash=pixel_hash.hexdigest(),
        perceptual_hash=np.packbits(duplicates.perceptual_hash(pixels)).tobytes(),
    )


def _look_at_header(
    name: str, image_bytes: bytes, min_side_px: int
) -> tuple[str | None, tuple[str, ...]]:
    """Problem and oddities, from the header alone: a bomb is never decoded."""
    if not image_bytes:
        return "empty file", ()
    try:
        with Image.open(io.BytesIO(image_bytes)) as opened:
            return _judge_header(name, opened, min_side_px)
    except UnidentifiedImageError:
        return "not an image", ()
    except Image.DecompressionBombError:
        return f"too large: more than {MAX_PIXELS} pixels", ()
    except (OSError, SyntaxError, ValueError) as error:
        return f"damaged: {error}", ()


def _judge_header(
    name: str, opened: Image.Image, min_side_px: int
) -> tuple[str | None, tuple[str, ...]]:
    width, height = opened.size
    animated = getattr(opened, "n_frames", 1) > 1
    if opened.format not in preprocess.DECODABLE_FORMATS:
        supported = ", ".join(preprocess.DECODABLE_FORMATS)
        return f"unsupported format {opened.format} (supported: {supported})", ()
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels (limit: {MAX_PIXELS} pixels)", ()
    if min(width, height) < min_side_px:
        return f"too small: {width} x {height} pixels (limit: {min_side_px} a side)", ()
    if animated and opened.format == "WEBP":
        return "unsupported: animated WebP", ()
    oddities = []
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix and suffix not in _SUFFIXES[opened.format]:
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


def judge(findings: Sequence[Finding], *, keep_conflicts: bool = False) -> Audit:
    """Decides what to use, and which images belong together.

    keep_conflicts: use the copies of a picture filed under several classes all the
    same, each with its class.
    """
    fine = [finding for finding in findings if finding.problem is None]
    conflicts = _find_conflicts(fine)
    dropped = set() if keep_conflicts else {n for names in conflicts for n in names}
    candidates = [finding for finding in fine if finding.image.name not in dropped]
    by_pixels = collections.defaultdict(list)
    for finding in candidates:
        key = (finding.image.label, finding.pixel_hash)
        by_pixels[key].append(finding.image.name)
    copies = [names for names in by_pixels.values() if len(names) > 1]
    dropped |= {name for names in copies for name in names[1:]}
    # Copies count for the key of their group: which of them is used follows from their
    # names, and no renaming may move a group.
    groups = _group(candidates, max_bits=duplicates.NEAR_DUPLICATE_BITS, by_source=True)
    group_of = {
        finding.image.name: min(member.file_hash for member in group)
        for group in groups
        for finding in group
        if finding.image.name not in dropped
    }
    named = [[n for n in _names(group) if n in group_of] for group in groups]
    return Audit(
        readable=fine,
        usable=[finding for finding in fine if finding.image.name in group_of],
        group_of=group_of,
        rejected=[finding for finding in findings if finding.problem is not None],
        copies=copies,
        near_duplicates=[names for names in named if len(names) > 1],
        conflicts=conflicts,
    )


def _names(findings: Iterable[Finding]) -> list[str]:
    return [finding.image.name for finding in findings]


def _find_conflicts(findings: Sequence[Finding]) -> list[list[str]]:
    groups = _group(findings, max_bits=duplicates.SAME_PICTURE_BITS)
    return [
        _names(group)
        for group in groups
        if len({finding.image.label for finding in group}) > 1
    ]


def _group(
    findings: Sequence[Finding], *, max_bits: int, by_source: bool = False
) -> list[list[Finding]]:
    if not findings:
        return []
    packed = np.frombuffer(b"".join(f.perceptual_hash for f in findings), np.uint8)
    hashes = np.unpackbits(packed.reshape(len(findings), -1), axis=1).astype(bool)
    numbers = duplicates.find_groups(hashes, max_bits=max_bits)
    if by_source:
        numbers = _merge(numbers, [finding.image.group for finding in findings])
    groups = collections.defaultdict(list)
    for number, finding in zip(numbers, findings, strict=True):
        groups[number].append(finding)
    return list(groups.values())


def _merge(numbers: np.ndarray, source_groups: Sequence[str | None]) -> np.ndarray:
    """Joins groups that share a group of the source; takes and gives int [N]."""
    first_of, left, right = {}, [], []
    for number, source_group in zip(numbers.tolist(), source_groups, strict=True):
        if source_group is not None:
            left.append(first_of.setdefault(source_group, number))
            right.append(number)
    count = int(numbers.max()) + 1
    ones = np.ones(len(left), bool)
    graph = sparse.coo_matrix((ones, (left, right)), shape=(count, count))
    _, joined = sparse.csgraph.connected_components(graph, directed=False)
    return joined[numbers]
