"""Builds the function that runs training steps on all replicas of this process."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.augmentation import counter_rng
from pipeline.augmentation.augmenter import Augmenter
from pipeline.augmentation.mixing import Mixer
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.models.batch_norm_folding import build_prefix
from trainer.models.batch_norm_fusion import fuse_classifier
from trainer.models.classifier import Classifier, FrozenPrefix, compute_logits
from trainer.training import losses


def make_train_steps(
    runtime: Runtime,
    classifier: Classifier,
    optimizer: keras.optimizers.Optimizer,
    augment: Augmenter,
    *,
    train_batch_norm: bool,
    frozen_prefix: FrozenPrefix | None = None,
    fuse_batch_norm: bool = False,
    precomputed: bool = False,
    label_smoothing: float = 0.0,
    mix: Mixer | None = None,
    class_weights: Sequence[float] = (),
) -> Callable:
    """Builds train_steps, which runs several steps of an epoch in one graph.

    Args:
      train_batch_norm: batch norm in the layers that train uses the statistics of the
        batch; see compute_logits.
      frozen_prefix: the frozen part of the regime's model. It always runs as in
        inference, without dropout.
      fuse_batch_norm: compute batch norm with fewer operations, which is faster and
        rounds otherwise; see models/batch_norm_fusion.py.
      precomputed: the batches hold the outputs of the frozen prefix instead of images.
        They are not augmented again.
      label_smoothing: share of each label that is spread evenly over all classes.
      mix: mixes each example (image or precomputed features) with another example on
        the same replica; see mixing.build_mixer.
      class_weights: weight of each class in the loss, which is the weighted mean over
        the global batch; empty: all images have the same weight.

    Returns:
      train_steps(iterator, batch, local_flags, *, seed, first_step, num_steps) ->
        float64 [num_steps, 3]: for each step the sum of the losses of its examples, the
          number of correct predictions, and the seconds that it waited afterwards for
          the next batch (NaN if deterministic);
        float32 [n]: the mean over all workers of their local_flags, float32 [n]. It
          reaches every worker, so that workers can agree;
        the batch of the step after the last one.
      Both batches are results of collectives.read_batch: while a step computes, the
      next batch is read and copied to the devices.
    """
    strategy = runtime.strategy
    replica_step = _make_replica_step(
        runtime,
        optimizer,
        _make_gradient_function(
            runtime,
            classifier,
            optimizer,
            train_batch_norm=train_batch_norm,
            frozen_prefix=frozen_prefix,
            fuse_batch_norm=fuse_batch_norm,
            precomputed=precomputed,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
        ),
        variables=classifier.model.trainable_variables,
        augment=None if precomputed else augment,
        mix=mix,
    )

    @tf.function
    def train_steps(iterator, batch, local_flags, *, seed, first_step, num_steps):
        reduced_flags = _reduce("MEAN", strategy, lambda: local_flags)
        steps = tf.TensorArray(tf.float64, num_steps)
        for index in tf.range(num_steps):
            step = first_step + index
            # Nothing below depends on it before the clock: it is read and copied while
            # the step computes.
            next_batch = collectives.read_batch(strategy, iterator)
            parts = collectives.distribute_batch(strategy, batch)
            total = _reduce("SUM", strategy, losses.sum_weights, parts, class_weights)
            sums = _reduce("SUM", strategy, replica_step, parts, seed, step, total)
            # The clock starts when the step is complete and stops when the next batch
            # is on the devices: the time between is spent waiting for input.
            computed = _read_clock(runtime, after=[sums])
            arrived = _read_clock(runtime, [computed, *tf.nest.flatten(next_batch)])
            row = tf.concat([tf.cast(sums, tf.float64), [arrived - computed]], axis=0)
            steps = steps.write(index, row)
            batch = next_batch
        return steps.stack(), reduced_flags, collectives.copy_batch(strategy, batch)

    return train_steps


@tf.autograph.experimental.do_not_convert
def _reduce(
    op: str, strategy: tf.distribute.Strategy, function: Callable, *arguments: Any
) -> tf.Tensor:
    """Returns the sum or mean over all replicas of function(*arguments)."""
    per_replica = strategy.run(function, args=arguments)
    return strategy.reduce(op, per_replica, axis=None)


def _make_gradient_function(
    runtime: Runtime,
    classifier: Classifier,
    optimizer: keras.optimizers.Optimizer,
    *,
    train_batch_norm: bool,
    frozen_prefix: FrozenPrefix | None,
    fuse_batch_norm: bool,
    precomputed: bool,
    label_smoothing: float,
    class_weights: Sequence[float],
) -> Callable:
    """Builds compute_gradients for one replica's batch.

    compute_gradients(inputs, labels, mixed_labels, weights, *, total_weight, seed) ->
      gradients of the trained variables (scaled, if the optimizer scales the loss);
      float32 [2]: sum of the losses and number of correct predictions.
    inputs: images, or features that were computed before.
    total_weight: sum of the weights of the examples in the global batch.
    mixed_labels, label_smoothing: see losses.compute_losses.
    """
    variables = classifier.model.trainable_variables
    prefix = None
    if frozen_prefix is not None and not precomputed:
        with runtime.strategy.scope():
            prefix = build_prefix(
                [frozen_prefix], folded=fuse_batch_norm, precision=runtime.precision
            )
    if fuse_batch_norm:
        with runtime.strategy.scope():
            classifier, frozen_prefix = fuse_classifier(
                classifier, frozen_prefix, train_batch_norm=train_batch_norm
            )

    def compute_gradients(inputs, labels, mixed_labels, weights, *, total_weight, seed):
        features = inputs
        if prefix is not None:
            (features,) = prefix(classifier.normalise(inputs))
        with tf.GradientTape() as tape:
            logits = compute_logits(
                classifier,
                features,
                frozen_prefix=frozen_prefix,
                dropout_seed=seed,
                train_backbone=train_batch_norm,
            )
            unweighted = weights * losses.compute_losses(
                labels, mixed_labels, logits, label_smoothing
            )
            weighted = unweighted
            if class_weights:
                weighted *= losses.mix_class_weights(
                    class_weights, labels, mixed_labels
                )
            # Summed over the replicas, these are the mean over the global batch.
            loss = tf.reduce_sum(weighted) / total_weight
            scaled = optimizer.scale_loss(loss) if _scales_loss(optimizer) else loss
        correct = tf.argmax(logits, axis=1, output_type=tf.int32) == labels
        correct_sum = tf.reduce_sum(weights * tf.cast(correct, tf.float32))
        sums = tf.stack([tf.reduce_sum(unweighted), correct_sum])
        return tape.gradient(scaled, variables), sums

    if runtime.jit:
        # XLA compiles this core alone. In one program with it, the augmentation would
        # be resampled again for each colour, and a jitted function cannot assign
        # variables of another replica.
        return tf.function(compute_gradients, autograph=False, jit_compile=True)
    return compute_gradients


def _make_replica_step(
    runtime: Runtime,
    optimizer: keras.optimizers.Optimizer,
    compute_gradients: Callable,
    *,
    variables: list,
    augment: Augmenter | None,
    mix: Mixer | None,
) -> Callable:
    """Builds replica_step(batch, seed, step, total_weight) -> float32 [2], the sums.

    augment: None does not augment.
    """
    replicas = runtime.strategy.num_replicas_in_sync

    # AutoGraph is for loops and conditions on tensors. All that a step calls has none,
    # and rewriting its source takes longer than building its graph.
    @tf.autograph.experimental.do_not_convert
    def replica_step(batch, seed, step, total_weight):
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        images = batch["image"]
        if augment is not None:
            # The randomness depends on the image, not on its place in a batch. So it is
            # the same on any number of replicas, and the same as in a cached view.
            seeds = counter_rng.row_seeds(tf.stack([seed, 0]), batch["position"])
            images = augment(images, seeds)
        # No two replicas, steps or epochs share their randomness, and there is no
        # random state: a run that continues repeats nothing and loses nothing.
        seed = tf.stack([seed, step * replicas + replica])
        mixed_labels = None
        if mix is not None:
            mixing_seed = tf.random.experimental.stateless_fold_in(seed, 2)
            images, partner, own_fraction = mix(images, mixing_seed, batch["weight"])
            mixed_labels = (tf.gather(batch["label"], partner), own_fraction)
        gradients, sums = compute_gradients(
            images,
            batch["label"],
            mixed_labels,
            batch["weight"],
            total_weight=total_weight,
            seed=tf.random.experimental.stateless_fold_in(seed, 1),
        )
        if _scales_loss(optimizer) and replicas > 1:
            # The loss scaling must see the same overflow on every replica, so it gets
            # the reduced gradients. apply() sums them again, hence the division.
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / replicas for gradient in gradients]
        optimizer.apply(gradients, variables)
        return sums

    return replica_step


def _scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


@tf.autograph.experimental.do_not_convert
def _read_clock(runtime: Runtime, after: list[tf.Tensor]) -> tf.Tensor:
    """Reads the time in seconds once the tensors `after` are computed."""
    if runtime.deterministic:  # TensorFlow then allows no clock.
        return tf.constant(np.nan, tf.float64)
    with tf.control_dependencies(after):
        return tf.timestamp()
