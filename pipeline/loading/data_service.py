"""Reads batches that the workers of a tf.data service decode."""

import socket
import urllib.parse
from collections.abc import Callable

import tensorflow as tf

from pipeline.loading.batches import decode_example, read_ahead
from pipeline.loading.order import WINDOW_BYTES, is_in_shard, num_batches
from pipeline.loading.prepared_data import Records
from pipeline.loading.sharding import shard_positions
from pipeline.system import parallel


def check_data_service(address: str) -> None:
    """Checks that a dispatcher answers; tf.data would wait for it without end.

    Raises:
      ValueError: no dispatcher answers.
    """
    parts = urllib.parse.urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"No dispatcher of a tf.data service answers ({error}). Received: "
            f"--data_service={address}; start the service or check the address."
        ) from error


def _add_weight(weight: float) -> Callable[[dict], dict]:
    return lambda example: {**example, "weight": tf.constant(weight, tf.float32)}


def make_served_batches(
    address: str,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    input_context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """Makes one epoch of batches; their order depends on which worker is faster.

    After them come batches of weight 0 without end, for those who read ahead.
    """
    global_rows = num_batches(records.count, batch_size) * batch_size
    shard_rows = global_rows // input_context.num_input_pipelines
    num_fillers = shard_rows - len(shard_positions(input_context, records.count))
    served = records.dataset.filter(is_in_shard(input_context)).map(_add_weight(1.0))
    served = served.shuffle(max(1, WINDOW_BYTES // records.mean_bytes), seed=seed)
    served = served.map(
        decode_example(image_size), num_parallel_calls=parallel.count_cores()
    )
    served = served.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC,
            service=address,
        )
    )
    fillers = records.dataset.repeat().take(num_fillers).map(_add_weight(0.0))
    dataset = served.concatenate(fillers.map(decode_example(image_size)))
    blank = records.dataset.take(1).map(_add_weight(0.0))
    blank = blank.map(decode_example(image_size)).cache().repeat()
    dataset = dataset.concatenate(blank)
    per_replica_batch_size = input_context.get_per_replica_batch_size(batch_size)
    dataset = dataset.batch(per_replica_batch_size, drop_remainder=True)
    return read_ahead(dataset)
