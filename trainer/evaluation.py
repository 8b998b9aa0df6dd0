"""Every example of a split, once: evaluate(), and map_examples() beneath it."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipeline import dataset
from pipeline.dataset import Records, Share
from trainer import model as model_lib
from trainer import runtime as runtime_lib
from trainer.interrupt import Requests
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime


def make_eval_step(
    runtime: Runtime, classifier: Classifier, frontier: Frontier | None = None
) -> Callable:
    """Builds eval_step(batch) -> per-replica (logits, labels, positions, weights).

    frontier: what the batches hold has crossed it.
    """
    return _make_eval_step(
        runtime,
        lambda images: model_lib.compute_logits(classifier, images, frontier=frontier),
    )


def make_joint_eval_step(
    runtime: Runtime,
    classifiers: Sequence[Classifier],
    frontiers: Sequence[Frontier | None],
) -> Callable:
    """As make_eval_step for M classifiers; its logits are [B, M, K].

    frontiers: one in each, behind what is the same in all and is computed once; None
      where nothing is.
    """

    def compute(images):
        if frontiers[0] is not None:
            images = classifiers[0].normalise(images)
            images = frontiers[0].prefix(images, training=False)
        logits = [
            model_lib.compute_logits(classifier, images, frontier=frontier)
            for classifier, frontier in zip(classifiers, frontiers, strict=True)
        ]
        return tf.stack(logits, axis=1)

    return _make_eval_step(runtime, compute)


def _make_eval_step(runtime: Runtime, compute: Callable) -> Callable:
    compute = tf.function(compute, jit_compile=runtime.jit)

    def replica_step(batch):
        batch = drop_padding(runtime, batch)
        rest = (batch["label"], batch["position"], batch["weight"])
        return (compute(batch["image"]), *rest)

    @tf.function
    def eval_step(batch):
        return runtime.strategy.run(replica_step, args=(batch,))

    return eval_step


def drop_padding(runtime: Runtime, batch: dict) -> dict:
    """A replica's batch without the rows that only fill it up, which come last.

    One row stays in any case, because fused layers do not survive an empty batch; and
    all do under XLA, which compiles anew for each shape.
    """
    if runtime.jit:
        return batch
    rows = tf.cast(tf.reduce_sum(batch["weight"]), tf.int32)
    return {name: part[: tf.maximum(rows, 1)] for name, part in batch.items()}


def evaluate(
    runtime: Runtime,
    eval_step: Callable,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    requests: Requests | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Classifies every example of a split exactly once.

    Returns:
      what the step makes of them, such as logits float32 [N, K], and labels int32 [N],
      in stored order.

    Raises:
      interrupt.Stopped: on every worker, if one of them was asked to, by `requests`.
    """
    parts = map_examples(
        runtime,
        eval_step,
        records,
        image_size=image_size,
        batch_size=batch_size,
        requests=requests or Requests(),
    )
    ours = [np.concatenate(part) for part in zip(*parts, strict=True)]
    logits, labels, positions = (
        gather_shares(runtime, part, records.count) for part in ours
    )
    if not np.array_equal(positions, np.arange(records.count)):
        raise RuntimeError(
            f"evaluated {len(labels)} examples of {records.count}: a bug, not a "
            "mistake of yours"
        )
    return logits, labels


def map_examples(
    runtime: Runtime,
    step: Callable,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    requests: Requests,
) -> Iterator[list[np.ndarray]]:
    """Runs a step on this worker's share of a split, while the others do theirs.

    step: (batch) -> per-replica (*results, weights).

    Yields:
      the results of each batch's rows, in stored order, without the padding.

    Raises:
      interrupt.Stopped: on every worker, if one of them was asked to, by `requests`.
    """
    strategy = runtime.strategy
    batches = dataset.make_eval_dataset(
        records,
        image_size=image_size,
        batch_size=batch_size,
        per_replica_batch_size=batch_size // strategy.num_replicas_in_sync,
        share=runtime_lib.share_of(runtime),
    )
    iterator = iter(batches)
    for _ in range(dataset.num_batches(records.count, batch_size)):
        if runtime_lib.any_worker(runtime, bool(requests.requested)):
            raise requests.stopped()
        *results, weights = [
            np.concatenate(strategy.experimental_local_results(part))
            for part in step(runtime_lib.next_batch(strategy, iterator))
        ]
        yield [result[weights > 0] for result in results]


def gather_shares(runtime: Runtime, rows: np.ndarray, count: int) -> np.ndarray:
    """Every worker's [share, ...] -> [count, ...] in stored order, on all of them."""
    share = runtime_lib.share_of(runtime)
    if share.num_pipelines == 1:
        return rows
    strategy = runtime.strategy
    # Collectives take few types; float32 holds half precision exactly.
    is_small = rows.dtype.itemsize < 4
    parts = np.array_split(
        rows[: len(share.positions(count))].astype(
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
        for pipeline in range(share.num_pipelines)
        for position in Share(share.num_pipelines, pipeline).positions(count)
    ]
    return one_after_the_other[np.argsort(positions)]
