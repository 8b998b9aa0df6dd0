"""Lets workers agree and exchange values: broadcast, barrier, reduce, gather."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.loading.sharding import shard_positions
from trainer.distribution.runtime import Runtime


def has_several_workers(runtime: Runtime) -> bool:
    """Returns True if other processes take part, which can fail."""
    return isinstance(runtime.strategy, tf.distribute.MultiWorkerMirroredStrategy)


def broadcast_from_chief(runtime: Runtime, number: int) -> int:
    """Broadcasts the chief's number to all workers.

    It is also a barrier: files that the chief wrote before can be read afterwards.
    """
    return _all_reduce_sum(runtime, int(number) if runtime.is_chief else 0)


def barrier(runtime: Runtime) -> None:
    """Waits until every worker has called it."""
    broadcast_from_chief(runtime, 0)


def any_worker(runtime: Runtime, flag: bool) -> bool:
    """Returns True on every worker if `flag` is true on any of them."""
    return _all_reduce_sum(runtime, int(flag)) > 0


def _all_reduce_sum(runtime: Runtime, number: int) -> int:
    if not has_several_workers(runtime):
        return number
    total = _make_sum(runtime.strategy)(tf.constant(number, tf.int64))
    return int(total) // len(runtime.strategy.extended.worker_devices)


@functools.cache
def _make_sum(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Builds the sum over all replicas, traced once.

    strategy.gather would be traced again in each call, which takes 0.1 s.
    """

    @tf.function(autograph=False)
    def sum_over_replicas(number):
        per_replica = strategy.run(lambda: number)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    return sum_over_replicas


def make_input_context(runtime: Runtime) -> tf.distribute.InputContext:
    """Returns which shard of a split this process reads, and the number of replicas."""
    strategy = runtime.strategy
    local = len(strategy.extended.worker_devices)
    resolver = strategy.cluster_resolver
    task_id = resolver.task_id if resolver is not None else None
    return tf.distribute.InputContext(
        num_input_pipelines=strategy.num_replicas_in_sync // local,
        input_pipeline_id=task_id or 0,
        num_replicas_in_sync=strategy.num_replicas_in_sync,
    )


# Not by strategy.distribute_datasets_from_function: it reads through its own iterator
# for each device. The tuner of that iterator cannot be turned off, and it sleeps longer
# and longer, up to a minute. The end of an epoch waits until the tuner wakes up.
@tf.autograph.experimental.do_not_convert
def read_batch(
    strategy: tf.distribute.Strategy, iterator: tf.data.Iterator
) -> list[dict[str, tf.Tensor]]:
    """Reads one batch for each replica of this process, and copies it to its device."""
    parts = [iterator.get_next() for _ in strategy.extended.worker_devices]
    return copy_batch(strategy, parts)


@tf.autograph.experimental.do_not_convert
def copy_batch(
    strategy: tf.distribute.Strategy, parts: Sequence[dict[str, tf.Tensor]]
) -> list[dict[str, tf.Tensor]]:
    """Copies each replica's part to its device, if it is not there."""
    copied = []
    for device, part in zip(strategy.extended.worker_devices, parts, strict=True):
        with tf.device(device):
            copied.append({name: tf.identity(value) for name, value in part.items()})
    return copied


@tf.autograph.experimental.do_not_convert
def distribute_batch(
    strategy: tf.distribute.Strategy, parts: Sequence[dict[str, tf.Tensor]]
) -> dict[str, Any]:
    """Gives each replica of this process its part; see read_batch."""
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group % len(parts)]
    )


def all_gather(runtime: Runtime, rows: np.ndarray, count: int) -> np.ndarray:
    """Gathers the rows of all workers, on every worker.

    Args:
      rows: [shard, ...], the rows of this worker's shard in stored order.
      count: number of examples of the split.

    Returns:
      [count, ...] in stored order.
    """
    input_context = make_input_context(runtime)
    if input_context.num_input_pipelines == 1:
        return rows
    strategy = runtime.strategy
    # Collectives take few types; float32 holds half precision exactly.
    is_small = rows.dtype.itemsize < 4
    parts = np.array_split(
        rows[: len(shard_positions(input_context, count))].astype(
            np.float32 if is_small else rows.dtype
        ),
        len(strategy.extended.worker_devices),
    )
    per_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            parts[context.replica_id_in_sync_group % len(parts)]
        )
    )
    shard_by_shard = strategy.gather(per_replica, axis=0).numpy().astype(rows.dtype)
    positions = [
        position
        for pipeline in range(input_context.num_input_pipelines)
        for position in range(pipeline, count, input_context.num_input_pipelines)
    ]
    return shard_by_shard[np.argsort(positions)]
