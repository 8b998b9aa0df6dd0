"""Looks at every image once: reads, checks, decodes and hashes it."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import itertools
import multiprocessing
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from pipeline import console, duplicates, preprocess, stored
from pipeline.engine import Engine, run_map
from pipeline.sources import SourceImage

# Decoding allocates what the header says: 12 bytes a pixel by the time it is float32.
MAX_PIXELS = 100_000_000

# The hash looks at 64 x 64 pixels.
_GREY_SIDE_PX = 96

# Threads share Python's lock and start at once; processes load TensorFlow first.
_WORTH_PROCESSES = 6_000
_CHUNK = 16

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
    perceptual_hash: bytes = b""


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
    return _map_on_all_cores(look, images, label="looking at")


def hash_pixels(
    images: Sequence[SourceImage],
    *,
    max_side_px: int | None,
    engine: Engine | None = None,
    work_dir: pathlib.Path | None = None,
) -> dict[str, str]:
    """Name -> SHA-256 of the decoded pixels as they will be stored; see look_at_all."""
    hash_one = functools.partial(_hash_pixels_of, max_side_px=max_side_px)
    if engine is not None:
        return dict(run_map(engine, hash_one, images, work_dir=work_dir))
    return dict(_map_on_all_cores(hash_one, images, label="comparing"))


def _map_on_all_cores(
    function: Callable, images: Sequence[SourceImage], *, label: str
) -> list:
    """[function(image) for image in images], with a progress bar."""
    workers = _count_cores()
    if workers > 1 and len(images) >= _WORTH_PROCESSES:
        # No fork of this process: TensorFlow's threads would not come along.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pool = concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=_ignore_warnings
        )
    else:
        pool = concurrent.futures.ThreadPoolExecutor(workers)
    map_chunk = functools.partial(_map_chunk, function)
    chunks = [images[at : at + _CHUNK] for at in range(0, len(images), _CHUNK)]
    with warnings.catch_warnings(), pool:
        _ignore_warnings()
        mapped = _map_bounded(pool, map_chunk, chunks, ahead=4 * workers)
        results = itertools.chain.from_iterable(mapped)
        return list(
            console.track(results, total=len(images), label=label, unit="images")
        )


def _count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ignore_warnings() -> None:
    """Pillow warns of sizes below our own limit and of odd metadata."""
    warnings.simplefilter("ignore")


def _map_chunk(function: Callable, images: Sequence[SourceImage]) -> list:
    return [function(image) for image in images]


def _map_bounded(
    pool: concurrent.futures.Executor,
    function: Callable,
    items: Iterable,
    *,
    ahead: int,
) -> Iterator:
    """pool.map in order, no more than `ahead` calls waiting: memory stays flat."""
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
    finding = Finding(image, "empty file", file_bytes=len(image_bytes))
    if not image_bytes:
        return finding
    try:
        with Image.open(io.BytesIO(image_bytes)) as opened:
            # From the header alone: a bomb is never decoded.
            problem, oddities = _judge_header(image.name, opened, min_side_px)
            finding = dataclasses.replace(finding, problem=problem, oddities=oddities)
            if problem is not None:
                return finding
            return _look_inside(finding, image_bytes, opened, max_side_px)
    except UnidentifiedImageError:
        return dataclasses.replace(finding, problem="not an image")
    except Image.DecompressionBombError:
        problem = f"too large: more than {MAX_PIXELS} pixels"
        return dataclasses.replace(finding, problem=problem)
    except (tf.errors.InvalidArgumentError, OSError, SyntaxError, ValueError):
        return dataclasses.replace(finding, problem="damaged: cannot be decoded")


def _look_inside(
    finding: Finding, image_bytes: bytes, opened: Image.Image, max_side_px: int | None
) -> Finding:
    if stored.is_stored_as_it_is(opened, max_side_px=max_side_px):
        to_store, size = image_bytes, opened.size
        grey = decode_grey(to_store, opened)
    else:
        to_store = stored.stored_bytes(image_bytes, max_side_px=max_side_px)
        with Image.open(io.BytesIO(to_store)) as reopened:
            size, grey = reopened.size, decode_grey(to_store, reopened)
    return dataclasses.replace(
        finding,
        width=size[0],
        height=size[1],
        stored_bytes=len(to_store),
        file_hash=hashlib.sha256(image_bytes).hexdigest(),
        perceptual_hash=np.packbits(duplicates.perceptual_hash(grey)).tobytes(),
    )


def decode_grey(image_bytes: bytes, opened: Image.Image) -> np.ndarray:
    """An encoded image -> uint8 [h, w] to hash; opened is its header.

    A JPEG is decoded without its colours and up to 8 times smaller, but no side below
    _GREY_SIDE_PX: all of the file is read, so that damage shows, and a third of the
    arithmetic is saved; most of it, of a large photograph.

    Raises:
      tf.errors.InvalidArgumentError: damaged.
    """
    if opened.format != "JPEG" or opened.mode == "CMYK":  # no grey of CMYK in libjpeg
        pixels = preprocess.decode(tf.constant(image_bytes)).numpy()
        return np.asarray(Image.fromarray(pixels).convert("L"))
    largest_ratio = min(opened.size) // _GREY_SIDE_PX
    ratio = max(r for r in (1, 2, 4, 8) if r <= max(largest_ratio, 1))
    return tf.io.decode_jpeg(image_bytes, channels=1, ratio=ratio).numpy()[..., 0]


def _hash_pixels_of(image: SourceImage, *, max_side_px: int | None) -> tuple[str, str]:
    to_store = stored.stored_bytes(image.read(), max_side_px=max_side_px)
    pixels = preprocess.decode(tf.constant(to_store)).numpy()
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(pixels.data)
    return image.name, digest.hexdigest()


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
