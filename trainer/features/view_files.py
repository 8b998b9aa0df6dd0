"""Computes the features of one view of a split and writes their files."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import Records
from pipeline.loading.sharding import shard_positions
from pipeline.system import console
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate
from trainer.features import array_file, cache_dir
from trainer.features.extraction import Step


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """The arrays of one split: one for each output and view.

    names: file names without suffix, [outputs][views]. A name is a hash of everything
      that decides the content.
    shapes: shape of each output, without the dimension of the examples.
    label: what the progress line calls them.
    content, flag, advice: see cache_dir.RoomRequest.
    """

    names: Sequence[Sequence[str]]
    shapes: Sequence[Sequence[int]]
    dtype: np.dtype
    label: str
    content: str
    flag: str
    advice: str

    @property
    def num_views(self) -> int:
        """The number of views, the same for each output."""
        return len(self.names[0])

    def count_bytes(self, output: int, num_rows: int) -> int:
        """Returns the size of one array of an output, without its checksum."""
        return num_rows * int(np.prod(self.shapes[output])) * self.dtype.itemsize


def count_rows(input_context: tf.distribute.InputContext, records: Records) -> int:
    """Returns the rows of one worker's files; see prepared_data.with_features."""
    return max(1, len(shard_positions(input_context, records.count)))


def save_labels(path: pathlib.Path, labels: np.ndarray) -> None:
    """Writes the labels int32 [rows] with a checksum, whole or not at all."""
    partial = cache_dir.partial_path(path)
    labels.tofile(partial)
    array_file.append_checksum(partial, labels.nbytes)
    partial.replace(path)


def compute_view(
    runtime: Runtime,
    entry: CacheEntry,
    records: Records,
    step: Step,
    paths: Sequence[pathlib.Path | None],
    *,
    view: int,
    image_size: int,
    batch_size: int,
) -> np.ndarray:
    """Writes the files of one view, each whole or not at all.

    paths: the file of each output; None does not write that output.

    Returns:
      The labels int32 [rows] of this worker's examples.
    """
    input_context = collectives.make_input_context(runtime)
    num_rows = count_rows(input_context, records)
    labels = np.zeros(num_rows, np.int32)
    batches = evaluate.map_examples(
        runtime, step, records, image_size=image_size, batch_size=batch_size
    )
    view_label = f" view {view + 1}/{entry.num_views}" if entry.num_views > 1 else ""
    with _write_arrays(entry, paths, num_rows) as arrays:
        for *outputs, positions, batch_labels in console.track(
            batches,
            total=num_batches(records.count, batch_size),
            label=f"{entry.label}{view_label}",
            unit="batches",
        ):
            rows = positions // input_context.num_input_pipelines
            labels[rows] = batch_labels
            for output, array in arrays.items():
                array[rows] = outputs[output]
    return labels


@contextlib.contextmanager
def _write_arrays(
    entry: CacheEntry, paths: Sequence[pathlib.Path | None], num_rows: int
) -> Iterator[dict[int, np.memmap]]:
    """Yields an array to fill for each output that has a path, then publishes them.

    After an error the partial files are removed.
    """
    targets = {output: path for output, path in enumerate(paths) if path is not None}
    partials = {
        output: cache_dir.partial_path(path) for output, path in targets.items()
    }
    try:
        arrays = {
            output: array_file.allocate(
                partial, (num_rows, *entry.shapes[output]), entry.dtype
            )
            for output, partial in partials.items()
        }
        yield arrays
        for output, partial in partials.items():
            arrays[output].flush()
            array_file.append_checksum(partial, arrays[output].nbytes)
            partial.replace(targets[output])
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
