"""What is the same in every epoch, computed once and kept: cache_features()."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import ml_dtypes
import numpy as np
import tensorflow as tf

from pipeline import augment, console, dataset
from pipeline.dataset import Records, Share
from trainer import evaluation, fold, runtime, store
from trainer.interrupt import Requests
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime
from trainer.store import Cache, Kept

_DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


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
        """For evaluation.map_examples; traced once for all splits and views."""
        with self.run.strategy.scope():
            prefix = fold.make_prefix(
                self.frontiers, folded=self.folded, precision=self.run.precision
            )

        def cross(batch):
            return prefix(self.classifier.normalise(batch["image"]))

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

    Of several workers each computes and keeps its share; see dataset.Share.

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

    kept = Kept(
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
            return [tf.cast(tf.round(batch["image"]), tf.uint8)]

        yield _make_step(run, round_images)

    depends_on = dict(cache.fingerprint)
    for name in ("backbone", "rounded"):
        depends_on.pop(name, None)
    cache = dataclasses.replace(cache, fingerprint=depends_on)
    kept = Kept(
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


def _find_or_compute(
    run: Runtime,
    cache: Cache,
    kept: Kept,
    records: Records,
    split: str,
    make_steps: Callable[[], Iterator[Callable]],
    *,
    requests: Requests,
    **options: object,
) -> list[Records]:
    """The records of each output; make_steps gives a step a view."""
    share = runtime.share_of(run)
    count = _count_rows(share, records)
    sizes = [kept.num_bytes(output, count) for output in range(len(kept.names))]
    labels_name = f"labels-{_digest(cache.fingerprint, split)}"
    labels_path = store.name_share(cache.directory / f"{labels_name}.int32", share)
    with store.locked(cache.directory, run, requests):
        whole = [[cache.directory / f"{n}.features" for n in row] for row in kept.names]
        paths = [[store.name_share(path, share) for path in row] for row in whole]
        # None where the file is there.
        lacking = [
            [None if store.is_whole(path, size) else path for path in row]
            for row, size in zip(paths, sizes, strict=True)
        ]
        lacks_labels = not store.is_whole(labels_path, 4 * count)
        # What one worker lacks, all compute, in step with one another.
        if runtime.any_worker(run, lacks_labels or any(map(any, lacking))):
            problem = store.make_room(cache, kept, run, whole, lacking, sizes)
            if runtime.any_worker(run, problem is not None):
                raise ValueError(problem or "Another worker has no room for features.")
            for view, step in enumerate(make_steps()):
                files = [row[view] for row in lacking]
                if runtime.any_worker(run, lacks_labels or any(files)):
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
                    if lacks_labels:
                        _save_labels(labels_path, labels)
                    lacks_labels = False
        labels = np.fromfile(labels_path, np.int32, count)
        fits = len(paths[0]) * sum(sizes) < store.SHARE_OF_MEMORY * store.free_memory()
        return [
            dataset.with_features(
                records,
                tuple(
                    store.open_array(path, (count, *shape), kept.dtype, fits)
                    for path in views
                ),
                labels,
                share,
            )
            for views, shape in zip(paths, kept.shapes, strict=True)
        ]


def _count_rows(share: Share, records: Records) -> int:
    """Of a share's files; see dataset.with_features."""
    return max(1, len(share.positions(records.count)))


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


def _save_labels(path: pathlib.Path, labels: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.tmp-{store.WHO}")
    labels.tofile(partial)
    store.seal(partial, labels.nbytes)
    partial.replace(path)


def _compute(
    run: Runtime,
    kept: Kept,
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
    share = runtime.share_of(run)
    count = _count_rows(share, records)
    labels = np.zeros(count, np.int32)
    partials = {
        output: path.with_name(f".{path.name}.tmp-{store.WHO}")
        for output, path in enumerate(paths)
        if path
    }
    parts = evaluation.map_examples(
        run, step, records, batch_size=batch_size, **options
    )
    views = len(kept.names[0])
    which = f" view {view + 1}/{views}" if views > 1 else ""
    steps = dataset.num_batches(records.count, batch_size)
    try:
        arrays = {
            output: store.allocate(partial, (count, *kept.shapes[output]), kept.dtype)
            for output, partial in partials.items()
        }
        for *outputs, positions, found in console.track(
            parts, total=steps, label=f"{kept.label}{which}", unit="batches"
        ):
            rows = positions // share.num_pipelines
            labels[rows] = found
            for output, array in arrays.items():
                array[rows] = outputs[output]
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    for output, partial in partials.items():
        arrays[output].flush()
        store.seal(partial, arrays[output].nbytes)
        partial.replace(paths[output])
    return labels


def _change_and_cross(
    change: Callable, seed: tf.Tensor, cross: Callable, batch: dict
) -> tuple:
    return cross(change(batch, seed))


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
    """A step for evaluation.map_examples: outputs, positions and labels of a batch."""

    def replica_step(batch):
        batch = evaluation.drop_padding(run, batch)
        rest = (batch["position"], batch["label"], batch["weight"])
        return (*compute(batch), *rest)

    @tf.function
    def step(batch):
        return run.strategy.run(replica_step, args=(batch,))

    return step
