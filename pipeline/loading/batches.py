"""Decodes examples, or looks up their features, and puts them into batches."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipeline import decoding
from pipeline.loading.prepared_data import Records
from pipeline.system import parallel

_BATCHES_AHEAD = 2


def decode_example(image_size: int) -> Callable[[dict], dict]:
    """Returns a function that decodes and resizes the image of one example."""
    return lambda example: {
        "image": decoding.decode_and_resize(example["image_bytes"], image_size),
        **_without_bytes(example),
    }


def _without_bytes(example: dict) -> dict:
    return {
        "label": tf.cast(example["label"], tf.int32),
        "weight": example["weight"],
        "position": tf.cast(example["position"], tf.int32),
    }


def _look_up_features(
    features: tuple[np.ndarray, ...], input_context: tf.distribute.InputContext
) -> Callable[[tf.Tensor, dict], dict]:
    """Returns look_up(views, batch) -> the batch with its features as "image"."""

    @tf.autograph.experimental.do_not_convert
    def look_up(views, batch):
        rows = tf.numpy_function(
            lambda view, positions: features[view][
                positions // input_context.num_input_pipelines
            ],
            [views[0], batch["position"]],
            tf.as_dtype(features[0].dtype),
        )
        shape = [*batch["position"].shape, *features[0].shape[1:]]
        return {"image": tf.ensure_shape(rows, shape), **batch}

    return look_up


def make_batches(
    elements: tf.data.Dataset,
    to_example: Callable[..., dict],
    records: Records,
    *,
    image_size: int,
    per_replica_batch_size: int,
    input_context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """Makes batches of elements in their order.

    to_example: element -> example with "weight" and "view".
    """
    if not records.features:
        decode = decode_example(image_size)

        @tf.autograph.experimental.do_not_convert
        def decode_element(*element):
            return decode(to_example(*element))

        # One call does everything: only its work is spread over the cores.
        dataset = elements.map(
            decode_element, num_parallel_calls=parallel.count_cores()
        )
        dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
        return read_ahead(dataset)

    @tf.autograph.experimental.do_not_convert
    def without_bytes(*element):
        example = to_example(*element)
        return example["view"], _without_bytes(example)

    dataset = elements.map(without_bytes)
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    # After the batching, so that Python is called once for all rows.
    return read_ahead(dataset.map(_look_up_features(records.features, input_context)))


def read_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Ends a pipeline: prefetches batches and turns the tuner of tf.data off.

    Every parallelism is given, so there is nothing to tune. The tuner has a cost: at
    the end of an epoch TensorFlow waits for its thread, which took 15 seconds and more
    where an epoch takes a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options)
