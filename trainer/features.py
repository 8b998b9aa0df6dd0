"""What is the same in every epoch, computed once and kept: cache_features()."""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import ml_dtypes
import numpy as np
import tensorflow as tf

from pipeline import augment, console, dataset
from pipeline.dataset import Records
from trainer import fold, loop, runtime
from trainer.interrupt import Requests
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime

_DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# Hosts that share a directory may have processes of one number.
_WHO = f"{platform.node()}-{os.getpid()}"

_SECONDS_TO_BE_LEFT_BEHIND = 24 * 3600.0

# Up to this share of the free memory is read into it; what is more is mapped.
_SHARE_OF_MEMORY = 0.25
# Of a container: its limit, and what of it is in use (cgroup versions 2 and 1).
_MEMORY_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
_SECONDS_BETWEEN_TRIES = 0.2
# Never fill a disk to the last byte: others write there too.
_FREE_AFTERWARDS_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class View:
    """One look at every image of a split.

    augment: preset; "none" for the image as it is.
    seed: of the augmentation; with an image's position it decides its randomness, so
      that it is the one which the epoch of that seed would have drawn.
    xla: compile the augmentation.
    """

    augment: str = "none"
    seed: int = 0
    xla: bool = True


@dataclasses.dataclass(frozen=True)
class Cache:
    """Where features are kept, and how much of them.

    directory: may be shared by runs, and by processes at the same time.
    max_bytes: of all that lies there.
    fingerprint: of the data and of what else features depend on besides the weights.
    """

    directory: pathlib.Path
    max_bytes: int
    fingerprint: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Crossing:
    """What takes images across frontiers of one classifier, whose weights stay.

    folded: with batch norm in the convolutions, which is quicker and rounds otherwise.
    """

    run: Runtime
    classifier: Classifier
    frontiers: Sequence[Frontier]
    folded: bool

    @functools.cached_property
    def digests(self) -> list[str]:
        """Of all that each frontier's prefix is."""
        return [_digest_prefix(frontier) for frontier in self.frontiers]

    @functools.cached_property
    def step(self) -> Callable:
        """For loop.gather_examples; traced once for all splits and views."""
        with self.run.strategy.scope():
            prefix = fold.make_prefix(
                self.frontiers, folded=self.folded, precision=self.run.precision
            )

        def cross(batch):
            # Collectives do not take bfloat16; float32 holds it exactly.
            return [
                tf.cast(output, tf.float32) if output.dtype == tf.bfloat16 else output
                for output in prefix(self.classifier.normalise(batch["image"]))
            ]

        return _make_step(self.run, cross)


def cache_features(
    crossing: Crossing,
    cache: Cache,
    records: Records,
    *,
    split: str,
    views: Sequence[View],
    image_size: int,
    batch_size: int,
    requests: Requests,
) -> list[Records]:
    """Computes each frontier's features of each view, in one pass, or finds them.

    Several workers share the work, and each gets all of the result.

    Args:
      records: encoded images.
      views: what the epochs take in turn.

    Returns:
      For each frontier the records with features.

    Raises:
      ValueError: they would take more than cache.max_bytes, or more than the disk has.
      interrupt.Stopped: asked to, through `requests`.
    """
    run = crossing.run
    precision = run.precision.removeprefix("mixed_")
    names = [
        [
            _digest(
                *(cache.fingerprint, digest, split, dataclasses.asdict(view)),
                *(precision, crossing.folded),
            )
            for view in views
        ]
        for digest in crossing.digests
    ]

    def make_steps():
        make = functools.cache(_make_changing_step)
        for view in views:
            yield functools.partial(
                _change_and_cross,
                make(run, view.augment, view.xla),
                tf.constant([view.seed, 0]),
                crossing.step,
            )

    kept = _Kept(
        what=f"The features of {len(views)} view(s)",
        received=f"--cached_views={len(views)}",
        advice="fewer views, --cached_views=0",
        label=f"{split} features",
        names=names,
        shapes=[frontier.prefix.output.shape[1:] for frontier in crossing.frontiers],
        dtype=_DTYPES[precision],
    )
    sizes = {"image_size": image_size, "batch_size": batch_size}
    return _find_or_compute(
        run, cache, kept, records, split, make_steps, requests=requests, **sizes
    )


def cache_images(
    run: Runtime,
    cache: Cache,
    records: Records,
    *,
    split: str,
    image_size: int,
    batch_size: int,
    requests: Requests,
) -> Records:
    """Decodes and resizes every image once, rounded to uint8, or finds them.

    Returns:
      Records whose batches hold the images, and that read no bytes.

    Raises:
      ValueError: they would take more than cache.max_bytes, or more than the disk has.
      interrupt.Stopped: asked to, through `requests`.
    """

    def make_steps():
        def round_images(batch):
            # Not to uint8: workers exchange it by collectives, which take few types.
            return [tf.cast(tf.round(batch["image"]), tf.int32)]

        yield _make_step(run, round_images)

    depends_on = dict(cache.fingerprint)
    for name in ("backbone", "rounded"):
        depends_on.pop(name, None)
    cache = dataclasses.replace(cache, fingerprint=depends_on)
    kept = _Kept(
        what="The decoded images",
        received="--cache=disk",
        advice="--cache=memory",
        label=f"{split} images",
        names=[[_digest(cache.fingerprint, split, "images")]],
        shapes=[(image_size, image_size, 3)],
        dtype=np.dtype(np.uint8),
    )
    sizes = {"image_size": image_size, "batch_size": batch_size}
    (found,) = _find_or_compute(
        run, cache, kept, records, split, make_steps, requests=requests, **sizes
    )
    return found


@dataclasses.dataclass(frozen=True)
class _Kept:
    """What is to lie in the cache: for each output a file a view.

    what, received, advice: for the message that there is no room.
    names: of the files, [outputs][views]; all that decides the content is in them.
    shapes: of each output, without the examples.
    """

    what: str
    received: str
    advice: str
    label: str
    names: Sequence[Sequence[str]]
    shapes: Sequence[Sequence[int]]
    dtype: np.dtype

    def num_bytes(self, output: int, count: int) -> int:
        return count * int(np.prod(self.shapes[output])) * self.dtype.itemsize


def _find_or_compute(
    run: Runtime,
    cache: Cache,
    kept: _Kept,
    records: Records,
    split: str,
    make_steps: Callable[[], Iterator[Callable]],
    *,
    requests: Requests,
    **options: object,
) -> list[Records]:
    """The records of each output; make_steps gives a step a view."""
    paths = [[cache.directory / f"{name}.features" for name in n] for n in kept.names]
    labels_path = cache.directory / f"labels-{_digest(cache.fingerprint, split)}.npy"
    count = records.count
    sizes = [kept.num_bytes(output, count) for output in range(len(paths))]
    with _locked(cache.directory, run, requests):
        # None where the file is whole: what is lacking.
        lacking = [
            [None if _is_whole(path, size) else path for path in views]
            for views, size in zip(paths, sizes, strict=True)
        ]
        lacks_labels = not labels_path.is_file()
        lacks = lacks_labels or any(map(any, lacking))
        # Workers may have disks of their own: what one lacks, all compute.
        if runtime.take_largest(run, int(lacks)):
            problem = _make_room(cache, kept, paths, lacking, sizes)
            if runtime.take_largest(run, int(problem is not None)):
                raise ValueError(problem or "Another worker has no room for features.")
            for view, step in enumerate(make_steps()):
                files = [views[view] for views in lacking]
                if runtime.take_largest(run, int(lacks_labels or any(files))):
                    labels = _compute(
                        run,
                        kept,
                        records,
                        step,
                        files,
                        view=view,
                        requests=requests,
                        **options,
                    )
                    _save_labels(labels_path, labels)
                    lacks_labels = False
            runtime.wait_for_all(run)  # until all have written what they compute
        labels = np.load(labels_path)
        fits = len(paths[0]) * sum(sizes) < _SHARE_OF_MEMORY * _free_memory()
        return [
            dataset.with_features(
                records,
                tuple(_open(path, (count, *shape), kept.dtype, fits) for path in views),
                labels,
            )
            for views, shape in zip(paths, kept.shapes, strict=True)
        ]


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _digest_prefix(frontier: Frontier) -> str:
    weights = hashlib.sha256()
    for weight in frontier.prefix.weights:
        weights.update(np.ascontiguousarray(weight.numpy()).tobytes())
    layers = [
        [type(layer).__name__, layer.name] for layer in frontier.prefix.layers[1:]
    ]
    shapes = [list(weight.shape) for weight in frontier.prefix.weights]
    return _digest(frontier.name, layers, shapes, weights.hexdigest())


@contextlib.contextmanager
def _locked(
    directory: pathlib.Path, run: Runtime, requests: Requests
) -> Iterator[None]:
    """One run at a time: a second one finds what the first has computed.

    Raises:
      interrupt.Stopped: asked to, through `requests`, while it waits.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Workers compute together, so of several the chief alone waits for other runs.
    if not run.is_chief:
        yield
        return
    with open(directory / ".lock", "w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: both compute
            said = False
            while not _try_to_lock(file):
                if not said:
                    print(f"another run uses {directory}; waiting for it", flush=True)
                said = True
                time.sleep(_SECONDS_BETWEEN_TRIES)
                if not runtime.has_several_workers(run):
                    requests.check()
        for partial in directory.glob(".*.tmp-*"):
            if _is_left_behind(partial):
                partial.unlink(missing_ok=True)
        yield


def _try_to_lock(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_left_behind(partial: pathlib.Path) -> bool:
    """Whether nobody writes it any more: a worker of this run, or another run, may."""
    host, _, process = partial.name.rpartition(".tmp-")[2].rpartition("-")
    if host == platform.node() and process.isdecimal():
        return not os.path.exists(f"/proc/{process}")
    try:
        return time.time() - partial.stat().st_mtime > _SECONDS_TO_BE_LEFT_BEHIND
    except FileNotFoundError:
        return False


def _make_room(
    cache: Cache,
    kept: _Kept,
    paths: Sequence[Sequence[pathlib.Path]],
    lacking: Sequence[Sequence[pathlib.Path | None]],
    sizes: Sequence[int],
) -> str | None:
    """Removes what was used longest ago; says what would not fit all the same.

    sizes: of a file of each output.
    """
    needed = len(paths[0]) * sum(sizes)
    if needed > cache.max_bytes:
        return (
            f"{kept.what} take {_gigabytes(needed)} and may take "
            f"{_gigabytes(cache.max_bytes)}. Received: {kept.received} "
            f"--cache_gb={cache.max_bytes / 1e9:g}; {kept.advice} or a larger "
            "--cache_gb."
        )
    wanted = {path for views in paths for path in views}
    others = []
    for path in cache.directory.glob("*.features"):
        with contextlib.suppress(FileNotFoundError):  # another worker makes room too
            status = path.stat()
            if path not in wanted:
                others.append((status.st_mtime, status.st_size, path))
    used = sum(size for _, size, _ in others)
    for _, size, oldest in sorted(others):
        if used + needed <= cache.max_bytes:
            break
        used -= size
        oldest.unlink(missing_ok=True)
    to_write = sum(
        size
        for size, views in zip(sizes, lacking, strict=True)
        for path in views
        if path
    )
    free = shutil.disk_usage(cache.directory).free
    if to_write and to_write + _FREE_AFTERWARDS_BYTES > free:
        return (
            f"{kept.what} take {_gigabytes(to_write)}, and the disk has "
            f"{_gigabytes(free)}. Received: {kept.received} "
            f"--cache_dir={cache.directory}; {kept.advice} or a disk with more room."
        )
    return None


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB"


def _is_whole(path: pathlib.Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def _free_memory() -> int:
    """Bytes that this machine, or the container, can still give."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in _MEMORY_LIMITS:
        # There may be none, and "max" is no number.
        with contextlib.suppress(OSError, ValueError):
            left = int(pathlib.Path(limit).read_text())
            left -= int(pathlib.Path(used).read_text())
            free = min(free, left)
    return free


def _open(
    path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype, in_memory: bool
) -> np.ndarray:
    """In memory, or mapped from the file."""
    os.utime(path)  # used just now
    if in_memory:  # not by a map, whose pages would count as well
        return np.fromfile(path, np.uint8).view(dtype).reshape(shape)
    return np.memmap(path, dtype, mode="r", shape=shape)


def _allocate(path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """A new file to write to, whose blocks the disk has given already.

    Raises:
      OSError: it has none left; through a map that would be the end of the process.
    """
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except (AttributeError, OSError) as error:  # macOS, some file systems
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            file.truncate(num_bytes)
    return np.memmap(path, dtype, mode="r+", shape=shape)


def _save_labels(path: pathlib.Path, labels: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.tmp-{_WHO}")
    with open(partial, "wb") as file:
        np.save(file, labels)
    partial.replace(path)


def _compute(
    run: Runtime,
    kept: _Kept,
    records: Records,
    step: Callable,
    paths: Sequence[pathlib.Path | None],
    *,
    view: int,
    batch_size: int,
    **options: object,
) -> np.ndarray:
    """Writes files of one view, each whole or not at all; returns the labels.

    paths: of each output; None leaves it out.
    """
    labels = np.zeros(records.count, np.int32)
    partials = {
        output: path.with_name(f".{path.name}.tmp-{_WHO}")
        for output, path in enumerate(paths)
        if path
    }
    rows = loop.gather_examples(run, step, records, batch_size=batch_size, **options)
    views = len(kept.names[0])
    which = f" view {view + 1}/{views}" if views > 1 else ""
    steps = dataset.num_batches(records.count, batch_size)
    try:
        arrays = {
            output: _allocate(
                partial, (records.count, *kept.shapes[output]), kept.dtype
            )
            for output, partial in partials.items()
        }
        for *outputs, positions, found in console.track(
            rows, total=steps, label=f"{kept.label}{which}", unit="batches"
        ):
            labels[positions] = found
            for output, array in arrays.items():
                array[positions] = outputs[output]
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    for output, partial in partials.items():
        arrays[output].flush()
        partial.replace(paths[output])
    return labels


def _change_and_cross(
    change: Callable, seed: tf.Tensor, cross: Callable, batch: dict, says: tf.Tensor
) -> tuple:
    return cross(change(batch, seed), says)


def _make_changing_step(run: Runtime, preset: str, xla: bool) -> Callable:
    """(batch, seed) -> the batch as views of this preset show it."""
    augmenter = augment.build_augmenter(preset, xla=xla)

    def change(batch, seed):
        seeds = augment.row_seeds(seed, batch["position"])
        return {**batch, "image": augmenter(batch["image"], seeds)}

    @tf.function
    def changing_step(batch, seed):
        return run.strategy.run(change, args=(batch, seed))

    return changing_step


def _make_step(run: Runtime, compute: Callable) -> Callable:
    """A step for loop.gather_examples: outputs, positions and labels of a batch."""

    def replica_step(batch, says):
        batch = loop.drop_padding(run, batch)
        rest = (batch["position"], batch["label"], batch["weight"], says)
        return (*compute(batch), *rest)

    @tf.function
    def step(batch, says):
        return run.strategy.run(replica_step, args=(batch, says))

    return step
