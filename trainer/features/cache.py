"""What is the same in every epoch, computed once and kept: cache_features()."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import ml_dtypes
import numpy as np
import tensorflow as tf

from pipeline.loading import prepared_data
from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import Records
from pipeline.loading.sharding import shard_positions
from pipeline.system import console
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate
from trainer.features import array_file, cache_dir
from trainer.features.cache_dir import CacheEntry, FeatureCache
from trainer.features.extraction import (
    PrefixExtractor,
    View,
    augment_and_extract,
    digest,
    make_augmenting_step,
    make_step,
)

_DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def cache_features(
    extractor: PrefixExtractor,
    cache: FeatureCache,
    records: Records,
    *,
    split: str,
    views: Sequence[View],
    image_size: int,
    batch_size: int,
) -> list[Records]:
    """Computes each frozen_prefix's features of each view, in one pass, or finds them.

    Of several workers each computes and keeps its share; see loading.sharding.

    Args:
      records: encoded images.
      views: what the epochs take in turn.

    Returns:
      For each frozen_prefix the records with features.

    Raises:
      ValueError: they would take more than cache.max_bytes, or more than the disk has.
      preemption.Stopped: asked to, through the runtime's stop signal.
    """
    runtime = extractor.runtime
    precision = runtime.precision.removeprefix("mixed_")
    names = [
        [
            digest(
                *(cache.fingerprint, digest, split, dataclasses.asdict(view)),
                *(precision, extractor.folded),
            )
            for view in views
        ]
        for digest in extractor.digests
    ]

    def make_steps():
        make = functools.cache(make_augmenting_step)
        for view in views:
            yield functools.partial(
                augment_and_extract,
                make(runtime, view.augment, view.xla),
                tf.constant([view.seed, 0]),
                extractor.step,
            )

    kept = CacheEntry(
        what=f"The features of {len(views)} view(s)",
        received=f"--cached_views={len(views)}",
        advice="fewer views, --cached_views=0",
        label=f"{split} features",
        names=names,
        shapes=[
            frozen_prefix.prefix.output.shape[1:]
            for frozen_prefix in extractor.frozen_prefixes
        ],
        dtype=_DTYPES[precision],
    )
    sizes = {"image_size": image_size, "batch_size": batch_size}
    return _find_or_compute(runtime, cache, kept, records, split, make_steps, **sizes)


def cache_images(
    runtime: Runtime,
    cache: FeatureCache,
    records: Records,
    *,
    split: str,
    image_size: int,
    batch_size: int,
) -> Records:
    """Decodes and resizes every image once, rounded to uint8, or finds them.

    Returns:
      Records whose batches hold the images, and that read no bytes.

    Raises:
      ValueError: they would take more than cache.max_bytes, or more than the disk has.
      preemption.Stopped: asked to, through the runtime's stop signal.
    """

    def make_steps():
        def round_images(batch):
            return [tf.cast(tf.round(batch["image"]), tf.uint8)]

        yield make_step(runtime, round_images)

    depends_on = dict(cache.fingerprint)
    for name in ("backbone", "rounded"):
        depends_on.pop(name, None)
    cache = dataclasses.replace(cache, fingerprint=depends_on)
    kept = CacheEntry(
        what="The decoded images",
        received="--cache=disk",
        advice="--cache=memory",
        label=f"{split} images",
        names=[[digest(cache.fingerprint, split, "images")]],
        shapes=[(image_size, image_size, 3)],
        dtype=np.dtype(np.uint8),
    )
    sizes = {"image_size": image_size, "batch_size": batch_size}
    (found,) = _find_or_compute(
        runtime, cache, kept, records, split, make_steps, **sizes
    )
    return found


def _find_or_compute(
    runtime: Runtime,
    cache: FeatureCache,
    kept: CacheEntry,
    records: Records,
    split: str,
    make_steps: Callable[[], Iterator[Callable]],
    **options: object,
) -> list[Records]:
    """The records of each output; make_steps gives a step a view."""
    input_context = collectives.make_input_context(runtime)
    count = _count_rows(input_context, records)
    sizes = [kept.num_bytes(output, count) for output in range(len(kept.names))]
    labels_name = f"labels-{digest(cache.fingerprint, split)}"
    labels_path = cache_dir.shard_path(
        cache.directory / f"{labels_name}.int32", input_context
    )
    with cache_dir.lock_cache(cache.directory, runtime):
        whole = [[cache.directory / f"{n}.features" for n in row] for row in kept.names]
        paths = [
            [cache_dir.shard_path(path, input_context) for path in row] for row in whole
        ]
        # None where the file is there.
        lacking = [
            [None if array_file.is_whole(path, size) else path for path in row]
            for row, size in zip(paths, sizes, strict=True)
        ]
        lacks_labels = not array_file.is_whole(labels_path, 4 * count)
        # What one worker lacks, all compute, in step with one another.
        if collectives.any_worker(runtime, lacks_labels or any(map(any, lacking))):
            problem = cache_dir.make_room(cache, kept, runtime, whole, lacking, sizes)
            if collectives.any_worker(runtime, problem is not None):
                raise ValueError(problem or "Another worker has no room for features.")
            for view, step in enumerate(make_steps()):
                files = [row[view] for row in lacking]
                if collectives.any_worker(runtime, lacks_labels or any(files)):
                    labels = _compute(
                        runtime,
                        kept,
                        records,
                        step,
                        files,
                        view=view,
                        **options,
                    )
                    if lacks_labels:
                        _save_labels(labels_path, labels)
                    lacks_labels = False
        labels = np.fromfile(labels_path, np.int32, count)
        fits = (
            len(paths[0]) * sum(sizes)
            < cache_dir.MEMORY_FRACTION * cache_dir.free_memory()
        )
        return [
            prepared_data.with_features(
                records,
                tuple(
                    array_file.open_array(path, (count, *shape), kept.dtype, fits)
                    for path in views
                ),
                labels,
                input_context,
            )
            for views, shape in zip(paths, kept.shapes, strict=True)
        ]


def _count_rows(input_context: tf.distribute.InputContext, records: Records) -> int:
    """Of a share's files; see dataset.with_features."""
    return max(1, len(shard_positions(input_context, records.count)))


def _save_labels(path: pathlib.Path, labels: np.ndarray) -> None:
    partial = path.with_name(f".{path.name}.tmp-{cache_dir.PROCESS_ID}")
    labels.tofile(partial)
    array_file.append_checksum(partial, labels.nbytes)
    partial.replace(path)


def _compute(
    runtime: Runtime,
    kept: CacheEntry,
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
    input_context = collectives.make_input_context(runtime)
    count = _count_rows(input_context, records)
    labels = np.zeros(count, np.int32)
    partials = {
        output: path.with_name(f".{path.name}.tmp-{cache_dir.PROCESS_ID}")
        for output, path in enumerate(paths)
        if path
    }
    parts = evaluate.map_examples(
        runtime, step, records, batch_size=batch_size, **options
    )
    views = len(kept.names[0])
    which = f" view {view + 1}/{views}" if views > 1 else ""
    steps = num_batches(records.count, batch_size)
    try:
        arrays = {
            output: array_file.allocate(
                partial, (count, *kept.shapes[output]), kept.dtype
            )
            for output, partial in partials.items()
        }
        for *outputs, positions, found in console.track(
            parts, total=steps, label=f"{kept.label}{which}", unit="batches"
        ):
            rows = positions // input_context.num_input_pipelines
            labels[rows] = found
            for output, array in arrays.items():
                array[rows] = outputs[output]
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    for output, partial in partials.items():
        arrays[output].flush()
        array_file.append_checksum(partial, arrays[output].nbytes)
        partial.replace(paths[output])
    return labels
