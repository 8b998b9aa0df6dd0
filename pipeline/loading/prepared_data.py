"""Opens a directory of prepared data."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline.inspection.reencoding import StoredForm
from pipeline.loading.sharding import ONE_PIPELINE, shard_positions
from pipeline.sources.images import SPLITS
from pipeline.system import parallel

# The format of a directory of prepared data; audit.json holds it.
DATA_FORMAT = 1

# A split of at most this many encoded bytes stays in memory after the first epoch.
_CACHE_BYTES = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples of one split, in stored order.

    dataset: elements {"image_bytes": string [], "label": int64 [], "name": string [],
      "position": int64 []}; positions count from 0 in stored order. The elements stay
      in memory after the first reading if `uncached` is not None.
    count: number of examples.
    mean_bytes: average size of an encoded example.
    uncached: the same examples without the in-memory cache; None if `dataset` is not
      cached.
    features: replaces the images: decoded images (uint8) or precomputed features of a
      frozen prefix. One array [rows, ...] for each view, with the rows of one
      pipeline's shard in stored order. Batches then hold these rows as "image", and
      `dataset` holds only the shard, without bytes and names.
    """

    dataset: tf.data.Dataset
    count: int
    mean_bytes: int
    uncached: tf.data.Dataset | None = None
    features: tuple[np.ndarray, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """The classes and sizes of a data set.

    classes: names; a label is an index into them.
    counts: split -> number of examples.
    """

    classes: tuple[str, ...]
    counts: dict[str, int]


def read_info(data_dir: str) -> DataInfo:
    """Reads the classes and counts of a prepared-data directory.

    Raises:
      ValueError: no such directory, not written by pipeline.main, or written by a later
        version of it.
    """
    builder = _open(data_dir)
    _check_format(data_dir)
    missing = [split for split in SPLITS if split not in builder.info.splits]
    if missing or not {"image", "label", "name"} <= set(builder.info.features):
        raise ValueError(
            "--data_dir must be a directory written by pipeline.main. Received: "
            f"--data_dir={data_dir}, a data set with the splits "
            f"{', '.join(sorted(builder.info.splits))} and the features "
            f"{', '.join(sorted(builder.info.features))}. Prepare the photographs with "
            "python -m pipeline.main."
        )
    return DataInfo(
        classes=tuple(builder.info.features["label"].names),
        counts={split: builder.info.splits[split].num_examples for split in SPLITS},
    )


def _check_format(data_dir: str) -> None:
    """Data without audit.json, or without a format number in it, have format 1."""
    path = pathlib.Path(data_dir, "audit.json")
    if not path.is_file():
        return
    file_format = json.loads(path.read_text(encoding="utf-8")).get("format", 1)
    if file_format > DATA_FORMAT:
        raise ValueError(
            f"The prepared data have format {file_format}, and this version reads "
            f"formats up to {DATA_FORMAT}. Received: --data_dir={data_dir}; use a "
            "newer version of this project."
        )


def read_stored_form(data_dir: str) -> StoredForm:
    """Returns how the images were stored, but for their size.

    Data without audit.json, or of an earlier version, are on white and have 16 bits.
    """
    path = pathlib.Path(data_dir, "audit.json")
    if not path.is_file():
        return StoredForm()
    audit = json.loads(path.read_text(encoding="utf-8"))
    return StoredForm(
        sample_bits=audit.get("sample_bits"),
        background=audit["settings"].get("background", "white"),
    )


def _open(data_dir: str) -> tfds.core.DatasetBuilder:
    if not os.path.isfile(os.path.join(data_dir, "dataset_info.json")):
        raise ValueError(
            "--data_dir must be a directory written by `python -m pipeline.main "
            f"--source=... --out=DATA`. Received: --data_dir={data_dir}, which "
            + (
                "holds no prepared data."
                if os.path.isdir(data_dir)
                else "does not exist."
            )
        )
    return tfds.builder_from_directory(data_dir)


def read_records(data_dir: str, split: str, *, cached: bool = True) -> Records:
    """Opens one split.

    cached: keep the encoded bytes in memory after the first reading, if they fit. False
      where they are read elsewhere, such as by a data service.
    """
    builder = _open(data_dir)
    info = builder.info.splits[split]
    # Not by as_dataset, whose reading costs twice as much. The shards follow one
    # another in the order of hashed keys, so their number does not change the order.
    starts = np.cumsum([0, *info.shard_lengths[:-1]])
    shards = tf.data.Dataset.from_tensor_slices(
        ([str(path) for path in info.filepaths], starts)
    )

    # It has no condition on a tensor, and AutoGraph would rewrite its source.
    @tf.autograph.experimental.do_not_convert
    def parse(position, serialized):
        example = builder.info.features.deserialize_example(
            serialized, decoders={"image": tfds.decode.SkipDecoding()}
        )
        return {
            "image_bytes": example["image"],
            "label": example["label"],
            "name": example["name"],
            "position": position,
        }

    dataset = shards.flat_map(
        lambda path, start: tf.data.TFRecordDataset(path).enumerate(start)
    ).map(parse, num_parallel_calls=parallel.count_cores())
    is_cached = cached and info.num_bytes <= _CACHE_BYTES
    return Records(
        dataset=dataset.cache() if is_cached else dataset,
        uncached=dataset if is_cached else None,
        count=info.num_examples,
        mean_bytes=max(1, info.num_bytes // info.num_examples),
    )


def with_features(
    records: Records,
    features: tuple[np.ndarray, ...],
    labels: np.ndarray,
    input_context: tf.distribute.InputContext = ONE_PIPELINE,
) -> Records:
    """Returns records whose batches hold features, in the same order as before.

    features, labels: arrays [rows, ...], see Records, and int [rows]. A shard without
      examples has one row, which fills its batches.
    """
    positions = list(shard_positions(input_context, records.count)) or [
        input_context.input_pipeline_id
    ]
    rows = {"label": labels, "position": np.array(positions, np.int64)}
    return dataclasses.replace(
        records,
        dataset=tf.data.Dataset.from_tensor_slices(rows),
        uncached=None,
        features=features,
    )


def read_names(records: Records) -> list[str]:
    """Returns the relative names of the examples, in stored order."""
    names = records.dataset.map(lambda example: example["name"])
    return [name.decode() for name in names.as_numpy_iterator()]


def read_labels(records: Records) -> np.ndarray:
    """Returns the labels of the examples, int64 [N], in stored order."""
    labels = records.dataset.map(lambda example: example["label"])
    return np.array(list(labels.as_numpy_iterator()), np.int64)


def select(records: Records, positions: np.ndarray) -> Records:
    """Returns only some examples, in stored order; their positions count anew from 0.

    positions: sorted positions, int [M].
    """
    is_selected = np.zeros(records.count, bool)
    is_selected[positions] = True

    @tf.autograph.experimental.do_not_convert
    def find_selected(example):
        return tf.gather(is_selected, example["position"])

    @tf.autograph.experimental.do_not_convert
    def renumber(position, example):
        return {**example, "position": position}

    return dataclasses.replace(
        records,
        dataset=records.dataset.filter(find_selected).enumerate().map(renumber),
        count=len(positions),
        uncached=None,
    )
