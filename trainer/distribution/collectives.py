"""Strategy, precision and seeds, set up once a process and in one fixed order."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipeline.loading.sharding import shard_positions
from trainer.distribution.runtime import Runtime


def has_several_workers(runtime: Runtime) -> bool:
    """Whether other processes take part, and may fail."""
    return isinstance(runtime.strategy, tf.distribute.MultiWorkerMirroredStrategy)


def broadcast_from_chief(runtime: Runtime, number: int) -> int:
    """The chief's number, on every worker.

    Returns once every worker is here: what the chief wrote before can be read.
    """
    return _all_reduce_sum(runtime, int(number) if runtime.is_chief else 0)


def barrier(runtime: Runtime) -> None:
    """Returns once every worker is here."""
    broadcast_from_chief(runtime, 0)


def any_worker(runtime: Runtime, says: bool) -> bool:
    """Whether one of the workers says so, on every worker."""
    return _all_reduce_sum(runtime, int(says)) > 0


def _all_reduce_sum(runtime: Runtime, number: int) -> int:
    if not has_several_workers(runtime):
        return number
    total = _make_sum(runtime.strategy)(tf.constant(number, tf.int64))
    return int(total) // len(runtime.strategy.extended.worker_devices)


@functools.cache
def _make_sum(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Traced once: by itself strategy.gather is traced in each call, for 0.1 s."""

    @tf.function
    def add_up(number):
        one_each = strategy.run(lambda: number)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, one_each, axis=None)

    return add_up


def make_input_context(runtime: Runtime) -> tf.distribute.InputContext:
    """What of each split this process reads."""
    strategy = runtime.strategy
    local = len(strategy.extended.worker_devices)
    resolver = strategy.cluster_resolver
    task_id = resolver.task_id if resolver is not None else None
    return tf.distribute.InputContext(
        num_input_pipelines=strategy.num_replicas_in_sync // local,
        input_pipeline_id=task_id or 0,
        num_replicas_in_sync=strategy.num_replicas_in_sync,
    )


# Not by strategy.distribute_datasets_from_function: it reads through an iterator of its
# own for each device, whose tuner cannot be turned off and sleeps ever longer, up to a
# minute. Whoever is done with an epoch waits until it wakes, as long as the epoch took.
def next_batch(strategy: tf.distribute.Strategy, iterator: tf.data.Iterator):
    """One batch for each of this process's replicas."""
    local = len(strategy.extended.worker_devices)
    parts = [next(iterator) for _ in range(local)]
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group % local]
    )


def all_gather(runtime: Runtime, rows: np.ndarray, count: int) -> np.ndarray:
    """Every worker's [share, ...] -> [count, ...] in stored order, on all of them."""
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
    ours = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(
            parts[context.replica_id_in_sync_group % len(parts)]
        )
    )
    one_after_the_other = strategy.gather(ours, axis=0).numpy().astype(rows.dtype)
    positions = [
        position
        for pipeline in range(input_context.num_input_pipelines)
        for position in range(pipeline, count, input_context.num_input_pipelines)
    ]
    return one_after_the_other[np.argsort(positions)]
