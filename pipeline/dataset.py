"""From prepared data to batches: make_train_dataset(), make_eval_dataset()."""

import dataclasses
import functools
import os
import socket
import urllib.parse
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline import cores, preprocess, splits

# Encoded bytes up to this much stay in memory after the first epoch.
_CACHE_BYTES = 4 * 2**30
_SHUFFLE_BUFFER_BYTES = 1 * 2**30
_BATCHES_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Records:
    """One split's examples, still encoded, in the order they are stored in.

    dataset: elements {"image_bytes": string [], "label": int64 [], "name": string [],
      "position": int64 []}, the position counting from 0 in stored order.
    count: number of examples.
    mean_bytes: average size of an example in its shard.
    features: what stands for the images where they are decoded already, uint8, or a
      model's frozen part has been computed: one array [count, ...] a view, in stored
      order. Batches then hold its rows as "image", uint8 as float32, and the dataset
      need not hold any bytes.
    """

    dataset: tf.data.Dataset
    count: int
    mean_bytes: int
    features: tuple[np.ndarray, ...] = ()


@dataclasses.dataclass(frozen=True)
class Share:
    """Which rows of each global batch one input pipeline reads.

    A global batch consists of the same examples however many pipelines (worker
    processes) share it, so a run does not depend on how it is spread.
    """

    num_pipelines: int = 1
    pipeline_id: int = 0


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
    missing = [split for split in splits.SPLITS if split not in builder.info.splits]
    if missing or not {"image", "label", "name"} <= set(builder.info.features):
        raise ValueError(
            "--data_dir must be a directory written by pipeline.main. Received: "
            f"--data_dir={data_dir}, a data set with the splits "
            f"{sorted(builder.info.splits)} and features "
            f"{sorted(builder.info.features)}."
        )
    return DataInfo(
        classes=tuple(builder.info.features["label"].names),
        counts={
            split: builder.info.splits[split].num_examples for split in splits.SPLITS
        },
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
    dataset = builder.as_dataset(
        split=split,
        decoders={"image": tfds.decode.SkipDecoding()},
        shuffle_files=False,
        read_config=tfds.ReadConfig(
            # One shard after the other: the shards continue one another in the order
            # of hashed keys, so the order of the examples does not depend on their
            # number.
            interleave_cycle_length=1,
            # TFDS would cache by its own rule; ours is below.
            try_autocache=False,
            # A data service gives each worker a part of the shards.
            assert_cardinality=False,
            add_tfds_id=True,
        ),
    )
    shard_starts = np.cumsum([0, *info.shard_lengths[:-1]])

    def select(example):
        # "photographs-train.tfrecord-00003-of-00008__17": the 18th of the 4th shard.
        pattern = r".*tfrecord-(\d+)-of-\d+__(\d+)"
        shard, row = (
            tf.strings.to_number(
                tf.strings.regex_replace(example["tfds_id"], pattern, group), tf.int64
            )
            for group in (r"\1", r"\2")
        )
        return {
            "image_bytes": example["image"],
            "label": example["label"],
            "name": example["name"],
            "position": tf.gather(tf.constant(shard_starts, tf.int64), shard) + row,
        }

    dataset = dataset.map(select, num_parallel_calls=cores.count_cores())
    if cached and info.num_bytes <= _CACHE_BYTES:
        dataset = dataset.cache()
    return Records(
        dataset=dataset,
        count=info.num_examples,
        mean_bytes=max(1, info.num_bytes // info.num_examples),
    )


def check_data_service(address: str) -> None:
    """Asks whether a dispatcher answers; tf.data itself would wait for it for ever.

    Raises:
      ValueError: none does.
    """
    parts = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No dispatcher of a tf.data service answers ({error}). Received: "
            f"--data_service={address}"
        ) from error


def num_batches(count: int, batch_size: int) -> int:
    """Batches that hold every example once, the last partial one included."""
    return -(-count // batch_size)


def make_train_dataset(
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    per_replica_batch_size: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    share: Share = Share(),
    data_service: str | None = None,
) -> tf.data.Dataset:
    """One epoch: every example once, in an order that follows from (seed, epoch).

    Args:
      first_step: leave out the global batches before this one.
      data_service: address of a tf.data service whose workers read and decode, each
        some of the shards; they must see the files under the same path. Then the order
        follows from which worker is quicker, and first_step must be 0.

    Returns:
      Batches for one replica after another, each
      {"image": float32 [b, image_size, image_size, 3], range [0, 255], or rows of the
       records' features, whose views the epochs take in turn;
       "label": int32 [b], "weight": float32 [b], "position": int32 [b]}
      with b = per_replica_batch_size.
      The last global batch is filled up with examples of weight 0, so that every shape
      is static (XLA compiles once) and every replica takes part in every step.
    """
    # Shuffle encoded bytes, not pixels: the buffer is ten times smaller, and images
    # are decoded in the order they are needed.
    buffer_size = min(
        records.count, max(1, _SHUFFLE_BUFFER_BYTES // records.mean_bytes)
    )
    if data_service is not None:
        return _batches_from_service(
            data_service,
            records,
            image_size=image_size,
            batch_size=batch_size,
            per_replica_batch_size=per_replica_batch_size,
            shuffle=lambda d: d.shuffle(buffer_size, seed=mix_seed(seed, epoch)),
            share=share,
        )
    shuffled = records.dataset.shuffle(buffer_size, seed=mix_seed(seed, epoch))
    return _batches(
        shuffled,
        records,
        image_size=image_size,
        batch_size=batch_size,
        per_replica_batch_size=per_replica_batch_size,
        first_step=first_step,
        view=epoch - 1,
        share=share,
    )


def make_eval_dataset(
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    per_replica_batch_size: int,
    share: Share = Share(),
) -> tf.data.Dataset:
    """Every example exactly once, in stored order; see make_train_dataset."""
    return _batches(
        records.dataset,
        records,
        image_size=image_size,
        batch_size=batch_size,
        per_replica_batch_size=per_replica_batch_size,
        share=share,
    )


def with_features(
    records: Records, features: tuple[np.ndarray, ...], labels: np.ndarray
) -> Records:
    """Records whose batches hold features; their order and shuffling stay the same.

    features: arrays [count, ...], see Records; labels: int [count]. In stored order.
    """
    rows = {"label": labels, "position": np.arange(records.count)}
    return dataclasses.replace(
        records, dataset=tf.data.Dataset.from_tensor_slices(rows), features=features
    )


def read_names(records: Records) -> list[str]:
    """The relative names of a split's examples, in the order of make_eval_dataset."""
    names = records.dataset.map(lambda example: example["name"])
    return [name.decode() for name in names.as_numpy_iterator()]


def mix_seed(seed: int, epoch: int) -> int:
    """A seed per epoch that no neighbouring seed or epoch shares."""
    return (seed * 1_000_003 + epoch) % 2**31


def _weigh(weight: float) -> Callable[[dict], dict]:
    return lambda example: {**example, "weight": tf.constant(weight, tf.float32)}


def _decode(image_size: int) -> Callable[[dict], dict]:
    decode_and_resize = _trace_decoding(image_size)
    return lambda example: {
        "image": decode_and_resize(example["image_bytes"]),
        **_without_bytes(example),
    }


@functools.cache
def _trace_decoding(image_size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Once, though every epoch makes a pipeline of its own."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decode_and_resize(image_bytes):
        return preprocess.decode_and_resize(image_bytes, image_size)

    return decode_and_resize


def _without_bytes(example: dict) -> dict:
    return {
        "label": tf.cast(example["label"], tf.int32),
        "weight": example["weight"],
        "position": tf.cast(example["position"], tf.int32),
    }


def _look_up(features: np.ndarray) -> Callable[[dict], dict]:
    """A batch without images -> the same with their rows of the features."""

    def look_up(batch):
        rows = tf.numpy_function(
            lambda positions: features[positions],
            [batch["position"]],
            tf.as_dtype(features.dtype),
        )
        rows = tf.ensure_shape(rows, [*batch["position"].shape, *features.shape[1:]])
        if rows.dtype == tf.uint8:
            rows = tf.cast(rows, tf.float32)
        return {"image": rows, **batch}

    return look_up


def _batches(
    ordered: tf.data.Dataset,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    per_replica_batch_size: int,
    share: Share,
    first_step: int = 0,
    view: int = 0,
) -> tf.data.Dataset:
    padding = num_batches(records.count, batch_size) * batch_size - records.count
    rows = batch_size // share.num_pipelines
    first_row = share.pipeline_id * rows

    def is_ours(row, _):
        row = row % batch_size
        return (first_row <= row) & (row < first_row + rows)

    def weigh(row, example):
        return {**example, "weight": tf.cast(row < records.count, tf.float32)}

    filler = records.dataset.repeat().take(padding)
    dataset = ordered.concatenate(filler).enumerate().skip(first_step * batch_size)
    # The choice of rows comes before the decoding: another worker's rows cost a read.
    if share.num_pipelines > 1:
        dataset = dataset.filter(is_ours)
    if not records.features:
        decode = _decode(image_size)
        # What is not in this call is done by one thread.
        dataset = dataset.map(
            lambda row, example: decode(weigh(row, example)),
            num_parallel_calls=cores.count_cores(),
        )
        dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
        return _read_ahead(dataset)
    dataset = dataset.map(lambda row, example: _without_bytes(weigh(row, example)))
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    # After the batching: one call into Python for all rows.
    features = records.features[view % len(records.features)]
    return _read_ahead(dataset.map(_look_up(features)))


def _read_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The end of every pipeline.

    Every parallelism is given, so there is nothing to tune, and a tuner is not free: at
    the end of an epoch TensorFlow waits for its thread, which was measured to take 15
    seconds and more where an epoch takes a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options)


def _batches_from_service(
    address: str,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    per_replica_batch_size: int,
    shuffle: Callable[[tf.data.Dataset], tf.data.Dataset],
    share: Share,
) -> tf.data.Dataset:
    """Batches like those of _batches; a row is ours by its position in the shards."""
    rows = num_batches(records.count, batch_size) * batch_size // share.num_pipelines
    ours = len(range(share.pipeline_id, records.count, share.num_pipelines))

    def is_ours(example):
        return example["position"] % share.num_pipelines == share.pipeline_id

    served = shuffle(records.dataset.filter(is_ours))
    served = served.map(_weigh(1.0))
    served = served.map(_decode(image_size), num_parallel_calls=cores.count_cores())
    served = served.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=address,
        )
    )
    filler = records.dataset.repeat().take(rows - ours).map(_weigh(0.0))
    dataset = served.concatenate(filler.map(_decode(image_size)))
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    return _read_ahead(dataset)
