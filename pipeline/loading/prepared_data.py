"""From prepared data to batches: make_train_dataset(), make_eval_dataset()."""

import dataclasses
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline.loading.sharding import ONE_PIPELINE, shard_positions
from pipeline.sources.images import SPLITS
from pipeline.system import parallel

# Encoded bytes up to this much stay in memory after the first epoch.
_CACHE_BYTES = 4 * 2**30


@dataclasses.dataclass(frozen=True)
class Records:
    """One split's examples, still encoded, in the order they are stored in.

    dataset: elements {"image_bytes": string [], "label": int64 [], "name": string [],
      "position": int64 []}, the position counting from 0 in stored order; in memory
      once they have been read, if they are to be kept.
    count: number of examples.
    mean_bytes: average size of an example in its shard.
    unkept: the same, read anew each time; None where dataset is that.
    features: what stands for the images where they are decoded already, uint8, or a
      model's frozen part has been computed: one array [share, ...] a view, of one
      pipeline's share in stored order. Batches then hold its rows as "image", uint8 as
      float32, and the dataset holds the share alone, without bytes.
    """

    dataset: tf.data.Dataset
    count: int
    mean_bytes: int
    unkept: tf.data.Dataset | None = None
    features: tuple[np.ndarray, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """classes: names, the label being their index; counts: split -> examples."""

    classes: tuple[str, ...]
    counts: dict[str, int]


def read_info(data_dir: str) -> DataInfo:
    """Reads the classes and counts of a prepared-data directory.

    Raises:
      ValueError: no such directory, or not prepared by pipeline.main.
    """
    builder = _open(data_dir)
    missing = [split for split in SPLITS if split not in builder.info.splits]
    if missing or not {"image", "label", "name"} <= set(builder.info.features):
        raise ValueError(
            "--data_dir must be a directory written by pipeline.main. Received: "
            f"--data_dir={data_dir}, a data set with the splits "
            f"{sorted(builder.info.splits)} and features "
            f"{sorted(builder.info.features)}."
        )
    return DataInfo(
        classes=tuple(builder.info.features["label"].names),
        counts={split: builder.info.splits[split].num_examples for split in SPLITS},
    )


def _open(data_dir: str) -> tfds.core.DatasetBuilder:
    if not os.path.isfile(os.path.join(data_dir, "dataset_info.json")):
        raise ValueError(
            "--data_dir must be a directory written by `python -m pipeline.main "
            f"--source=... --out=DATA`. Received: --data_dir={data_dir}, which "
            + (
                "holds no prepared data."
                if os.path.isdir(data_dir)
                else "is not there."
            )
        )
    return tfds.builder_from_directory(data_dir)


def read_records(data_dir: str, split: str, *, cached: bool = True) -> Records:
    """Opens one split; its bytes are read once and kept in memory if they fit.

    cached: False where they are read elsewhere, by a data service.
    """
    builder = _open(data_dir)
    info = builder.info.splits[split]
    # Not by as_dataset, whose reading costs twice as much. Shards continue one another
    # in the order of hashed keys, so the order does not depend on their number.
    starts = np.cumsum([0, *info.shard_lengths[:-1]])
    shards = tf.data.Dataset.from_tensor_slices(
        ([str(path) for path in info.filepaths], starts)
    )

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
    keeps = cached and info.num_bytes <= _CACHE_BYTES
    return Records(
        dataset=dataset.cache() if keeps else dataset,
        unkept=dataset if keeps else None,
        count=info.num_examples,
        mean_bytes=max(1, info.num_bytes // info.num_examples),
    )


def with_features(
    records: Records,
    features: tuple[np.ndarray, ...],
    labels: np.ndarray,
    input_context: tf.distribute.InputContext = ONE_PIPELINE,
) -> Records:
    """Records whose batches hold features; their order and shuffling stay the same.

    features: arrays [share, ...], see Records; labels: int [share]. In stored order; of
    a share without examples one row, to fill batches with.
    """
    positions = list(shard_positions(input_context, records.count)) or [
        input_context.input_pipeline_id
    ]
    rows = {"label": labels, "position": np.array(positions, np.int64)}
    return dataclasses.replace(
        records,
        dataset=tf.data.Dataset.from_tensor_slices(rows),
        unkept=None,
        features=features,
    )


def read_names(records: Records) -> list[str]:
    """The relative names of a split's examples, in the order of make_eval_dataset."""
    names = records.dataset.map(lambda example: example["name"])
    return [name.decode() for name in names.as_numpy_iterator()]
