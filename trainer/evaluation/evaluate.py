"""Classifies every example of a split exactly once, on all workers together."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipeline.loading.dataset import make_eval_dataset
from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import Records
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.evaluation.saliency import compute_heat, find_centre
from trainer.models.classifier import (
    Classifier,
    FrozenPrefix,
    compute_features,
    compute_head,
    compute_logits,
    pool_features,
)
from trainer.postprocessing.unknown import UnknownScorer, compute_unknown_score


def make_eval_step(
    runtime: Runtime, classifier: Classifier, frozen_prefix: FrozenPrefix | None = None
) -> Callable:
    """Builds eval_step(batch) -> per-replica (logits, labels, positions, weights).

    logits: float32 [B, K]; labels, positions: int [B]; weights: float32 [B], 0 for the
    rows of the padding.

    frozen_prefix: if given, the batches hold its outputs instead of images.
    """
    return _make_eval_step(
        runtime,
        lambda images: [
            compute_logits(classifier, images, frozen_prefix=frozen_prefix)
        ],
    )


def make_joint_eval_step(
    runtime: Runtime,
    classifiers: Sequence[Classifier],
    frozen_prefixes: Sequence[FrozenPrefix | None],
    scorers: Sequence[UnknownScorer],
) -> Callable:
    """Builds a step that evaluates M classifiers at once.

    It is eval_step(batch) -> per-replica (logits, scores, centres, labels, positions,
    weights). logits: float32 [B, M, K]; scores: float32 [B, M], unknown scores;
    centres: float32 [B, M, 2], where the classifiers look, see saliency.find_centre;
    the others as in make_eval_step.

    Args:
      frozen_prefixes: one for each classifier. All have the same prefix, which is
        computed once, and each has its own suffix. Or None for each classifier, if they
        share no layers.
      scorers: one for each classifier.
    """

    def compute(images):
        features = _compute_features(classifiers, frozen_prefixes, images)
        embeddings = [
            pool_features(*each) for each in zip(classifiers, features, strict=True)
        ]
        centres = [
            find_centre(compute_heat(*each))
            for each in zip(classifiers, features, strict=True)
        ]
        logits = [
            compute_head(classifier, embedding)
            for classifier, embedding in zip(classifiers, embeddings, strict=True)
        ]
        scores = [
            compute_unknown_score(*each)
            for each in zip(scorers, embeddings, logits, strict=True)
        ]
        return [tf.stack(parts, axis=1) for parts in (logits, scores, centres)]

    return _make_eval_step(runtime, compute)


def make_embedding_step(
    runtime: Runtime,
    classifiers: Sequence[Classifier],
    frozen_prefixes: Sequence[FrozenPrefix | None],
) -> Callable:
    """Builds a step that computes the embeddings of M classifiers.

    It is eval_step(batch) -> per-replica (embeddings, logits, labels, positions,
    weights). embeddings: [B, M, D]; logits: float32 [B, M, K]; the others as in
    make_eval_step.

    frozen_prefixes: see make_joint_eval_step.
    """

    def compute(images):
        features = _compute_features(classifiers, frozen_prefixes, images)
        embeddings = [
            pool_features(*each) for each in zip(classifiers, features, strict=True)
        ]
        logits = [
            compute_head(classifier, embedding)
            for classifier, embedding in zip(classifiers, embeddings, strict=True)
        ]
        return [tf.stack(embeddings, axis=1), tf.stack(logits, axis=1)]

    return _make_eval_step(runtime, compute)


def _compute_features(
    classifiers: Sequence[Classifier],
    frozen_prefixes: Sequence[FrozenPrefix | None],
    images: tf.Tensor,
) -> list[tf.Tensor]:
    """Returns the features of each classifier; see make_joint_eval_step."""
    if frozen_prefixes[0] is not None:
        images = classifiers[0].normalise(images)
        images = frozen_prefixes[0].prefix(images, training=False)
    return [
        compute_features(classifier, images, frozen_prefix=frozen_prefix)
        for classifier, frozen_prefix in zip(classifiers, frozen_prefixes, strict=True)
    ]


def _make_eval_step(runtime: Runtime, compute: Callable) -> Callable:
    compute = tf.function(compute, autograph=False, jit_compile=runtime.jit)

    def replica_step(batch):
        batch = drop_padding(runtime, batch)
        outputs = compute(batch["image"])
        return (*outputs, batch["label"], batch["position"], batch["weight"])

    @tf.function(autograph=False)
    def eval_step(batch):
        return runtime.strategy.run(replica_step, args=(batch,))

    return eval_step


def drop_padding(runtime: Runtime, batch: dict) -> dict:
    """Removes the rows of weight 0 from a replica's batch; they are its last rows.

    One row stays in any case, because fused layers fail on an empty batch. Under XLA
    all rows stay, because XLA compiles again for each new shape.
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
) -> tuple[np.ndarray, ...]:
    """Classifies every example of a split exactly once.

    Args:
      eval_step: from make_eval_step, make_joint_eval_step or make_embedding_step.

    Returns:
      The results of eval_step without positions and weights, each [N, ...] in stored
      order: such as logits float32 [N, K] and labels int32 [N].

    Raises:
      preemption.Stopped: on every worker, if one of them was asked to stop.
    """
    batches = map_examples(
        runtime,
        eval_step,
        records,
        image_size=image_size,
        batch_size=batch_size,
    )
    local_results = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    *results, positions = (
        collectives.all_gather(runtime, result, records.count)
        for result in local_results
    )
    if not np.array_equal(positions, np.arange(records.count)):
        raise RuntimeError(
            f"The evaluation returned {len(positions)} examples of {records.count}. "
            "This is a bug of the program."
        )
    return tuple(results)


def map_examples(
    runtime: Runtime,
    step: Callable,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
) -> Iterator[list[np.ndarray]]:
    """Runs a step on this worker's part of a split; every worker has to call this.

    Args:
      step: step(batch) -> per-replica (*results, weights).

    Yields:
      The results for the examples of each batch, in stored order, without the padding.

    Raises:
      preemption.Stopped: on every worker, if one of them was asked to stop.
    """
    strategy = runtime.strategy
    batches = make_eval_dataset(
        records,
        image_size=image_size,
        batch_size=batch_size,
        input_context=collectives.make_input_context(runtime),
    )
    iterator = iter(batches)
    ready = collectives.read_batch(strategy, iterator)
    for left in reversed(range(num_batches(records.count, batch_size))):
        if collectives.any_worker(runtime, runtime.stop_signal.is_set):
            raise runtime.stop_signal.make_exception()
        outputs = step(collectives.distribute_batch(strategy, ready))
        if left:  # The next batch is copied while a GPU still computes.
            ready = collectives.read_batch(strategy, iterator)
        *results, weights = [
            np.concatenate(strategy.experimental_local_results(part))
            for part in outputs
        ]
        yield [result[weights > 0] for result in results]
