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
# Examples are shuffled within windows of this to twice as many encoded bytes.
_WINDOW_BYTES = 2**28
_BATCHES_AHEAD = 2


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
class Share:
    """Which examples of a split one input pipeline reads: every num_pipelines-th.

    Each makes up its part of every global batch, and a global batch consists of the
    same examples however many pipelines (worker processes) there are, so a run does
    not depend on how it is spread.
    """

    num_pipelines: int = 1
    pipeline_id: int = 0

    def positions(self, count: int) -> range:
        """Of the share's examples in a split of so many."""
        return range(self.pipeline_id, count, self.num_pipelines)


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
    ).map(parse, num_parallel_calls=cores.count_cores())
    keeps = cached and info.num_bytes <= _CACHE_BYTES
    return Records(
        dataset=dataset.cache() if keeps else dataset,
        unkept=dataset if keeps else None,
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
    """Epoch after epoch: each holds every example once, in an order of (seed, epoch).

    It does not end, so that no epoch but the first waits for its pipeline.

    Args:
      epoch: the first one, counted from 1.
      first_step: leave out the global batches of it before this one.
      data_service: address of a tf.data service whose workers read and decode, each
        some of the shards; they must see the files under the same path. Then the order
        follows from which worker is quicker, first_step must be 0, and the data set
        ends with its epoch.

    Returns:
      Batches for one replica after another, each
      {"image": float32 [b, image_size, image_size, 3], range [0, 255], or rows of the
       records' features, whose views the epochs take in turn;
       "label": int32 [b], "weight": float32 [b], "position": int32 [b]}
      with b = per_replica_batch_size.
      Whole global batches are filled up with examples of weight 0, so that every shape
      is static (XLA compiles once) and every replica takes part in every step. No step
      is without an example that counts.
    """
    if data_service is not None:
        return _batches_from_service(
            data_service,
            records,
            image_size=image_size,
            batch_size=batch_size,
            per_replica_batch_size=per_replica_batch_size,
            seed=mix_seed(seed, epoch),
            share=share,
        )
    ordered, select = _shuffle(
        records, batch_size=batch_size, epoch=epoch, seed=seed, share=share
    )
    return _batches(
        ordered.skip(first_step * batch_size // share.num_pipelines),
        select,
        records,
        image_size=image_size,
        per_replica_batch_size=per_replica_batch_size,
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
    """Every example exactly once, in stored order, the fillers last; see
    make_train_dataset."""
    ours = len(share.positions(records.count))

    def select(row, example):
        weight = tf.cast(row < ours, tf.float32)
        return {**example, "weight": weight, "view": tf.constant(0, tf.int64)}

    return _batches(
        _read_share(records.dataset, records, batch_size, share).enumerate(),
        select,
        records,
        image_size=image_size,
        per_replica_batch_size=per_replica_batch_size,
        share=share,
    )


def with_features(
    records: Records,
    features: tuple[np.ndarray, ...],
    labels: np.ndarray,
    share: Share = Share(),
) -> Records:
    """Records whose batches hold features; their order and shuffling stay the same.

    features: arrays [share, ...], see Records; labels: int [share]. In stored order; of
    a share without examples one row, to fill batches with.
    """
    positions = list(share.positions(records.count)) or [share.pipeline_id]
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


def mix_seed(seed: int, epoch: int) -> int:
    """A seed per epoch that no neighbouring seed or epoch shares."""
    return (seed * 1_000_003 + epoch) % 2**31


def _is_in(share: Share) -> Callable[[dict], tf.Tensor]:
    return lambda example: (
        example["position"] % share.num_pipelines == share.pipeline_id
    )


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
    """Once, though every evaluation makes a pipeline of its own."""

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


def _look_up(
    features: tuple[np.ndarray, ...], share: Share
) -> Callable[[tf.Tensor, dict], dict]:
    """A batch's views and all but its images -> it with their rows of the features."""

    def look_up(view, batch):
        rows = tf.numpy_function(
            lambda view, positions: features[view][positions // share.num_pipelines],
            [view[0], batch["position"]],
            tf.as_dtype(features[0].dtype),
        )
        shape = [*batch["position"].shape, *features[0].shape[1:]]
        rows = tf.ensure_shape(rows, shape)
        if rows.dtype == tf.uint8:
            rows = tf.cast(rows, tf.float32)
        return {"image": rows, **batch}

    return look_up


def _read_share(
    examples: tf.data.Dataset, records: Records, batch_size: int, share: Share
) -> tf.data.Dataset:
    """One pipeline's examples in stored order, filled up to whole global batches.

    In each column of the last batch that has none, the column's first one stands: so
    what trained batch norm sees does not depend on the number of pipelines either,
    unless there are fewer examples than a batch has.
    """
    rows = batch_size // share.num_pipelines
    ours = len(share.positions(records.count))
    fillers = num_batches(records.count, batch_size) * rows - ours
    if share.num_pipelines > 1 and not records.features:
        examples = examples.filter(_is_in(share))
    if not ours:  # of very few examples a pipeline may have none
        return records.dataset.repeat().take(fillers)
    return examples.concatenate(examples.repeat().skip(ours % rows).take(fillers))


def _shuffle(
    records: Records, *, batch_size: int, epoch: int, seed: int, share: Share
) -> tuple[tf.data.Dataset, Callable[..., dict]]:
    """Endless elements in the epochs' orders, and what makes an example of one.

    The stored order is cut into global batches, and these into windows that fit in
    memory. In a window each column of the batches (one example in each) is shuffled by
    itself. So a pipeline trains no examples but its share, and still a batch does not
    depend on how many pipelines there are. The fillers of the last batch are spread
    over its window.
    """
    rows = batch_size // share.num_pipelines
    ours = len(share.positions(records.count))
    steps = num_batches(records.count, batch_size)
    steps_at_once = _size_windows(
        steps, least=_WINDOW_BYTES // (records.mean_bytes * batch_size)
    )
    num_windows = -(-steps // steps_at_once)
    num_views = max(1, len(records.features))

    def order(number, window):
        now, number = epoch + number // num_windows, number % num_windows
        num_steps = tf.shape(window["label"])[0] // rows
        drawn = tf.random.stateless_uniform(
            [batch_size, num_steps], tf.stack([mix_seed(seed, now), number])
        )
        columns = tf.argsort(drawn[share.pipeline_id :: share.num_pipelines])
        indices = tf.reshape(tf.transpose(columns) * rows + tf.range(rows), [-1])
        read_before = number * steps_at_once * rows
        weights = tf.cast(read_before + tf.cast(indices, tf.int64) < ours, tf.float32)
        here = {**window, "view": (now - 1) % num_views}
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices((indices, weights)),
            tf.data.Dataset.from_tensors(here).repeat(),
        )

    def select(drawn, window):
        index, weight = drawn
        view = window.pop("view")
        example = {name: part[index] for name, part in window.items()}
        return {**example, "weight": weight, "view": view}

    examples = records.dataset if records.unkept is None else records.unkept
    windows = _read_share(examples, records, batch_size, share)
    windows = windows.batch(steps_at_once * rows)
    if records.unkept is not None:  # keeps what is put together, and of a share alone
        windows = windows.cache()
    return windows.repeat().enumerate().prefetch(1).flat_map(order), select


def _size_windows(steps: int, least: int) -> int:
    """Of so many to about twice as many steps, that the last one is not much shorter.

    In one of a single step nothing would be shuffled.
    """
    least = max(3, least)
    if steps <= 2 * least + 1:
        return steps
    return max(
        range(least, 2 * least + 2), key=lambda size: ((steps - 1) % size + 1, size)
    )


def _batches(
    ordered: tf.data.Dataset,
    select: Callable[..., dict],
    records: Records,
    *,
    image_size: int,
    per_replica_batch_size: int,
    share: Share,
) -> tf.data.Dataset:
    """select: element -> example with "weight" and "view"."""
    if not records.features:
        decode = _decode(image_size)
        # What is not in this call is done by one thread.
        dataset = ordered.map(
            lambda *element: decode(select(*element)),
            num_parallel_calls=cores.count_cores(),
        )
        dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
        return _read_ahead(dataset)

    def without_bytes(*element):
        example = select(*element)
        return example["view"], _without_bytes(example)

    dataset = ordered.map(without_bytes)
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    # After the batching: one call into Python for all rows.
    return _read_ahead(dataset.map(_look_up(records.features, share)))


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
    seed: int,
    share: Share,
) -> tf.data.Dataset:
    """Batches like those of _batches, in an order that follows from who is quicker."""
    rows = num_batches(records.count, batch_size) * batch_size // share.num_pipelines
    ours = len(share.positions(records.count))
    served = records.dataset.filter(_is_in(share)).map(_weigh(1.0))
    served = served.shuffle(max(1, _WINDOW_BYTES // records.mean_bytes), seed=seed)
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
