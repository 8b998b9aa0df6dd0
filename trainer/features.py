"""What crosses the frontier, computed once and kept: cache_features()."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence

import keras
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

# Arrays up to this share of the free memory are read into it; larger ones are mapped.
_SHARE_OF_MEMORY = 0.25
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


def cache_features(
    run: Runtime,
    cache: Cache,
    classifier: Classifier,
    frontiers: Sequence[Frontier],
    records: Records,
    *,
    split: str,
    views: Sequence[View],
    image_size: int,
    batch_size: int,
    folded: bool,
    requests: Requests,
) -> list[Records]:
    """Computes each frontier's features of each view, in one pass, or finds them.

    Several workers share the work, and each gets all of the result.

    Args:
      frontiers: of one classifier.
      records: encoded images.
      views: what the epochs take in turn.
      folded: with batch norm in the convolutions, which is quicker and rounds
        otherwise.

    Returns:
      For each frontier the records with features.

    Raises:
      ValueError: they would take more than cache.max_bytes, or more than the disk has.
      interrupt.Stopped: asked to, through `requests`.
    """
    precision = run.precision.removeprefix("mixed_")
    paths = {}
    for index, frontier in enumerate(frontiers):
        model_digest = _digest_prefix(frontier)
        for view in views:
            name = _digest(
                *(cache.fingerprint, model_digest, split, dataclasses.asdict(view)),
                *(precision, folded),
            )
            paths[index, view] = cache.directory / f"{name}.features"
    labels_path = cache.directory / f"labels-{_digest(cache.fingerprint, split)}.npy"
    shapes = [(records.count, *f.prefix.output.shape[1:]) for f in frontiers]
    dtype = _DTYPES[precision]
    with _locked(cache.directory, run):
        missing = [
            view
            for view in views
            if not all(
                _is_whole(paths[index, view], shape, dtype)
                for index, shape in enumerate(shapes)
            )
        ]
        if not labels_path.is_file() or runtime.has_several_workers(run):
            missing = missing and list(views)
        some_lack = bool(missing) or not labels_path.is_file()
        # Workers may have disks of their own: what one lacks, all compute.
        if runtime.take_largest(run, int(some_lack)):
            _make_room(cache, paths.values(), shapes, dtype, views=len(views))
            labels = _compute(
                run,
                classifier,
                frontiers,
                records,
                views=missing or views,
                paths=paths,
                shapes=shapes,
                dtype=dtype,
                split=split,
                image_size=image_size,
                batch_size=batch_size,
                folded=folded,
                precision=precision,
                requests=requests,
            )
            _save_labels(labels_path, labels)
            runtime.take_largest(run, 0)  # all have written what they compute
        labels = np.load(labels_path)
        return [
            dataset.with_features(
                records,
                tuple(_open(paths[index, view], shape, dtype) for view in views),
                labels,
            )
            for index, shape in enumerate(shapes)
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
def _locked(directory: pathlib.Path, run: Runtime) -> Iterator[None]:
    """One run at a time: a second one finds what the first has computed."""
    directory.mkdir(parents=True, exist_ok=True)
    # Workers compute together, so of several the chief alone waits for other runs.
    if not run.is_chief:
        yield
        return
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run computes features in {directory}; waiting", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: both compute
            pass
        for partial in directory.glob(".*.tmp-*"):
            if _is_left_behind(partial):
                partial.unlink(missing_ok=True)
        yield


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
    wanted: Sequence[pathlib.Path],
    shapes: Sequence[tuple[int, ...]],
    dtype: np.dtype,
    *,
    views: int,
) -> None:
    """Removes what was used longest ago; refuses what would not fit all the same."""
    needed = views * sum(int(np.prod(s)) * dtype.itemsize for s in shapes)
    wanted = set(wanted)
    others = sorted(
        (p for p in cache.directory.glob("*.features") if p not in wanted),
        key=lambda path: path.stat().st_mtime,
    )
    if needed > cache.max_bytes:
        raise ValueError(
            f"The features of {views} view(s) take {_gigabytes(needed)} and may take "
            f"{_gigabytes(cache.max_bytes)}. Received: --cached_views={views} "
            f"--cache_gb={cache.max_bytes / 1e9:g}; fewer views, --cached_views=0 or a "
            "larger --cache_gb."
        )
    used = sum(path.stat().st_size for path in others)
    while others and used + needed > cache.max_bytes:
        oldest = others.pop(0)
        used -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)
    present = sum(path.stat().st_size for path in wanted if path.is_file())
    free = shutil.disk_usage(cache.directory).free + present
    if needed + _FREE_AFTERWARDS_BYTES > free:
        raise ValueError(
            f"The features of {views} view(s) take {_gigabytes(needed)}, and the disk "
            f"has {_gigabytes(free)}. Received: --cache_dir={cache.directory}; name "
            "one with more room, or fewer --cached_views."
        )


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB"


def _is_whole(path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    size = int(np.prod(shape)) * dtype.itemsize
    return path.is_file() and path.stat().st_size == size


def _open(path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """In memory where it fits, else mapped from the file."""
    os.utime(path)  # used just now
    array = np.memmap(path, dtype, mode="r", shape=shape)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return np.array(array) if array.nbytes < _SHARE_OF_MEMORY * free else array


def _save_labels(path: pathlib.Path, labels: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.tmp-{_WHO}")
    with open(partial, "wb") as file:
        np.save(file, labels)
    partial.replace(path)


def make_prefix(
    frontiers: Sequence[Frontier], *, folded: bool, precision: str
) -> keras.Model:
    """One model for several frontiers: normalised images -> a list of tensors.

    folded: a copy with batch norm in its convolutions, else the layers themselves.
    """
    prefix = keras.Model(
        frontiers[0].prefix.input, [frontier.prefix.output for frontier in frontiers]
    )
    if not folded:
        return prefix
    # Weights in float32: collectives that spread them do not take bfloat16.
    policy = precision if precision == "float32" else f"mixed_{precision}"
    return fold.fold_batch_norm(prefix, precision=policy).model


def _compute(
    run: Runtime,
    classifier: Classifier,
    frontiers: Sequence[Frontier],
    records: Records,
    *,
    views: Sequence[View],
    paths: Mapping[tuple[int, View], pathlib.Path],
    shapes: Sequence[tuple[int, ...]],
    dtype: np.dtype,
    split: str,
    image_size: int,
    batch_size: int,
    folded: bool,
    precision: str,
    requests: Requests,
) -> np.ndarray:
    """Writes every file, each whole or not at all; returns the labels."""
    with run.strategy.scope():
        prefix = make_prefix(frontiers, folded=folded, precision=precision)
    labels = np.zeros(records.count, np.int32)
    for number, view in enumerate(views, start=1):
        whole = [paths[index, view] for index in range(len(frontiers))]
        partials = [path.with_name(f".{path.name}.tmp-{_WHO}") for path in whole]
        arrays = [
            np.memmap(path, dtype, mode="w+", shape=shape)
            for path, shape in zip(partials, shapes, strict=True)
        ]
        rows = _run_prefix(
            run,
            classifier,
            prefix,
            records,
            view=view,
            image_size=image_size,
            batch_size=batch_size,
            requests=requests,
        )
        which = f" view {number}/{len(views)}" if len(views) > 1 else ""
        steps = dataset.num_batches(records.count, batch_size)
        try:
            for *outputs, positions, found in console.track(
                rows, total=steps, label=f"{split} features{which}", unit="batches"
            ):
                labels[positions] = found
                for array, output in zip(arrays, outputs, strict=True):
                    array[positions] = output
        except BaseException:
            for path in partials:
                path.unlink(missing_ok=True)
            raise
        for array, partial, path in zip(arrays, partials, whole, strict=True):
            array.flush()
            partial.replace(path)
    return labels


def _run_prefix(
    run: Runtime,
    classifier: Classifier,
    prefix: keras.Model,
    records: Records,
    *,
    view: View,
    image_size: int,
    batch_size: int,
    requests: Requests,
) -> Iterator[list[np.ndarray]]:
    """Of each batch its outputs, positions and labels, without the padding."""
    change = augment.build_augmenter(view.augment, xla=view.xla)

    def replica_step(batch, says):
        seeds = augment.row_seeds(tf.constant([view.seed, 0]), batch["position"])
        images = change(batch["image"], seeds)
        outputs = prefix(classifier.normalise(images), training=False)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        # Collectives do not take bfloat16; float32 holds it exactly.
        outputs = [
            tf.cast(output, tf.float32) if output.dtype == tf.bfloat16 else output
            for output in outputs
        ]
        return (*outputs, batch["position"], batch["label"], batch["weight"], says)

    @tf.function
    def step(batch, says):
        return run.strategy.run(replica_step, args=(batch, says))

    return loop.gather_examples(
        run,
        step,
        records,
        image_size=image_size,
        batch_size=batch_size,
        requests=requests,
    )
