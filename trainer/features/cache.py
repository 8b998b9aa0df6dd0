"""Finds the outputs of the frozen layers in the cache, or computes and writes them."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np

from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import Records
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.features import array_file, cache_dir
from trainer.features.cache_dir import FeatureCache, RoomRequest
from trainer.features.extraction import (
    PrefixExtractor,
    Step,
    View,
    hash_parts,
    make_step,
)
from trainer.features.view_files import (
    CacheEntry,
    compute_view,
    count_rows,
    save_labels,
)

# Part of the name of every file. Increase it whenever a change of code changes the
# features of the same image: decoding, augmentation, folding, rounding, order of rows.
# A test pins the hash of a known array.
FEATURES_FORMAT = 2

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
    """Computes the features of each prefix and view in one pass, or finds them.

    Each of several workers computes and caches its shard; see loading/sharding.py.

    Args:
      records: encoded images.
      views: the augmented views; the epochs use them in turn.

    Returns:
      For each prefix of the extractor, records whose batches hold its features.

    Raises:
      ValueError: the features need more room than cache.max_bytes or than the disk has.
      preemption.Stopped: the process was asked to stop.
    """
    precision = extractor.runtime.precision.removeprefix("mixed_")
    entry = CacheEntry(
        names=[
            [
                hash_parts(
                    FEATURES_FORMAT,
                    cache.fingerprint,
                    prefix_digest,
                    split,
                    dataclasses.asdict(view),
                    precision,
                    extractor.folded,
                )
                for view in views
            ]
            for prefix_digest in extractor.digests
        ],
        shapes=[
            frozen_prefix.prefix.output.shape[1:]
            for frozen_prefix in extractor.frozen_prefixes
        ],
        dtype=_DTYPES[precision],
        label=f"{split} features",
        content=f"The features of {len(views)} view(s)",
        flag=f"--cached_views={len(views)}",
        advice="fewer views, --cached_views=0",
    )
    return _find_or_compute(
        extractor.runtime,
        cache,
        entry,
        records,
        lambda view: extractor.make_view_step(views[view]),
        split=split,
        image_size=image_size,
        batch_size=batch_size,
    )


def cache_images(
    runtime: Runtime,
    cache: FeatureCache,
    records: Records,
    *,
    split: str,
    image_size: int,
    batch_size: int,
) -> Records:
    """Decodes and resizes every image once, or finds the result.

    Returns:
      Records whose batches hold the images and that read no encoded bytes.

    Raises:
      ValueError: the images need more room than cache.max_bytes or than the disk has.
      preemption.Stopped: the process was asked to stop.
    """
    # Decoded images depend neither on the backbone nor on --cache.
    fingerprint = {
        name: value for name, value in cache.fingerprint.items() if name != "backbone"
    }
    cache = dataclasses.replace(cache, fingerprint=fingerprint)
    entry = CacheEntry(
        names=[[hash_parts(FEATURES_FORMAT, fingerprint, split, "images")]],
        shapes=[(image_size, image_size, 3)],
        dtype=np.dtype(np.uint8),
        label=f"{split} images",
        content="The decoded images",
        flag="--cache=disk",
        advice="--cache=memory",
    )
    (images,) = _find_or_compute(
        runtime,
        cache,
        entry,
        records,
        lambda view: make_step(runtime, lambda batch: [batch["image"]]),
        split=split,
        image_size=image_size,
        batch_size=batch_size,
    )
    return images


# Longer than 60 lines: the lock is held from the search for missing files until all
# files are open.
def _find_or_compute(
    runtime: Runtime,
    cache: FeatureCache,
    entry: CacheEntry,
    records: Records,
    make_view_step: Callable[[int], Step],
    *,
    split: str,
    image_size: int,
    batch_size: int,
) -> list[Records]:
    """Returns records for each output; make_view_step(view) is called where needed."""
    input_context = collectives.make_input_context(runtime)
    num_rows = count_rows(input_context, records)
    file_bytes = [entry.count_bytes(i, num_rows) for i in range(len(entry.names))]

    def path_of(name: str, suffix: str) -> pathlib.Path:
        return cache_dir.shard_path(cache.directory / f"{name}{suffix}", input_context)

    paths = [[path_of(name, ".features") for name in views] for views in entry.names]
    labels_name = f"labels-{hash_parts(FEATURES_FORMAT, cache.fingerprint, split)}"
    labels_path = path_of(labels_name, ".int32")
    with cache_dir.lock_cache(cache.directory, runtime):
        # [outputs][views]: the path of a file to write, or None for one that is there.
        missing_paths = [
            [None if array_file.is_intact(path, size) else path for path in views]
            for views, size in zip(paths, file_bytes, strict=True)
        ]
        labels_missing = not array_file.is_intact(labels_path, 4 * num_rows)
        # If one worker misses a file, all workers compute, in step with one another.
        if collectives.any_worker(
            runtime, labels_missing or any(map(any, missing_paths))
        ):
            _check_room(runtime, cache, entry, file_bytes, missing_paths)
            for view in range(entry.num_views):
                view_paths = [views[view] for views in missing_paths]
                if not collectives.any_worker(
                    runtime, labels_missing or any(view_paths)
                ):
                    continue
                labels = compute_view(
                    runtime,
                    entry,
                    records,
                    make_view_step(view),
                    view_paths,
                    view=view,
                    image_size=image_size,
                    batch_size=batch_size,
                )
                if labels_missing:
                    save_labels(labels_path, labels)
                labels_missing = False
        labels = np.fromfile(labels_path, np.int32, num_rows)
        in_memory = cache_dir.fits_in_memory(entry.num_views * sum(file_bytes))

        def open_views(output: int) -> Records:
            shape = (num_rows, *entry.shapes[output])
            arrays = tuple(
                array_file.open_array(path, shape, entry.dtype, in_memory=in_memory)
                for path in paths[output]
            )
            return prepared_data.with_features(records, arrays, labels, input_context)

        return [open_views(output) for output in range(len(entry.names))]


def _check_room(
    runtime: Runtime,
    cache: FeatureCache,
    entry: CacheEntry,
    file_bytes: Sequence[int],
    missing_paths: Sequence[Sequence[pathlib.Path | None]],
) -> None:
    """Makes room for the missing files, or raises a ValueError on every worker."""
    request = RoomRequest(
        file_names=[name for views in entry.names for name in views],
        needed_bytes=entry.num_views * sum(file_bytes),
        missing_bytes=sum(
            size * sum(path is not None for path in views)
            for size, views in zip(file_bytes, missing_paths, strict=True)
        ),
        content=entry.content,
        flag=entry.flag,
        advice=entry.advice,
    )
    problem = cache_dir.make_room(cache, runtime, request)
    if collectives.any_worker(runtime, problem is not None):
        raise ValueError(
            problem or "Another worker has no room for its features; see its own error."
        )
