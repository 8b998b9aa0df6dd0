"""From prepared data to batches: make_train_dataset(), make_eval_dataset()."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipeline import decoding
from pipeline.loading.prepared_data import Records
from pipeline.system import parallel

_BATCHES_AHEAD = 2


def decode_examples(image_size: int) -> Callable[[dict], dict]:
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
        return decoding.decode_and_resize(image_bytes, image_size)

    return decode_and_resize


def _without_bytes(example: dict) -> dict:
    return {
        "label": tf.cast(example["label"], tf.int32),
        "weight": example["weight"],
        "position": tf.cast(example["position"], tf.int32),
    }


def _look_up(
    features: tuple[np.ndarray, ...], input_context: tf.distribute.InputContext
) -> Callable[[tf.Tensor, dict], dict]:
    """A batch's views and all but its images -> it with their rows of the features."""

    def look_up(view, batch):
        rows = tf.numpy_function(
            lambda view, positions: features[view][
                positions // input_context.num_input_pipelines
            ],
            [view[0], batch["position"]],
            tf.as_dtype(features[0].dtype),
        )
        shape = [*batch["position"].shape, *features[0].shape[1:]]
        rows = tf.ensure_shape(rows, shape)
        if rows.dtype == tf.uint8:
            rows = tf.cast(rows, tf.float32)
        return {"image": rows, **batch}

    return look_up


def make_batches(
    ordered: tf.data.Dataset,
    select: Callable[..., dict],
    records: Records,
    *,
    image_size: int,
    per_replica_batch_size: int,
    input_context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """select: element -> example with "weight" and "view"."""
    if not records.features:
        decode = decode_examples(image_size)
        # What is not in this call is done by one thread.
        dataset = ordered.map(
            lambda *element: decode(select(*element)),
            num_parallel_calls=parallel.count_cores(),
        )
        dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
        return read_ahead(dataset)

    def without_bytes(*element):
        example = select(*element)
        return example["view"], _without_bytes(example)

    dataset = ordered.map(without_bytes)
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    # After the batching: one call into Python for all rows.
    return read_ahead(dataset.map(_look_up(records.features, input_context)))


def read_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The end of every pipeline.

    Every parallelism is given, so there is nothing to tune, and a tuner is not free: at
    the end of an epoch TensorFlow waits for its thread, which was measured to take 15
    seconds and more where an epoch takes a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options)
