"""The distributed train step, and the loop over it."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from pipeline.augmentation import counter_rng
from pipeline.augmentation.augmenter import Augmenter
from pipeline.augmentation.mixing import Mixer
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.models import freezing
from trainer.models.batch_norm_folding import build_prefix
from trainer.models.classifier import Classifier, FrozenPrefix, compute_logits


def make_train_steps(
    runtime: Runtime,
    classifier: Classifier,
    optimizer: keras.optimizers.Optimizer,
    augment: Augmenter,
    *,
    train_batch_norm: bool,
    frozen_prefix: FrozenPrefix | None = None,
    folded: bool = False,
    precomputed: bool = False,
    mix: Mixer | None = None,
) -> Callable:
    """Builds the function that runs steps of an epoch in one graph.

    frozen_prefix: of the regime; what lies before it behaves as in inference, dropout
      included.
    folded: with batch norm in the convolutions there, which is quicker and rounds
      otherwise.
    precomputed: what the batches hold has precomputed it, and is not augmented again.
    mix: mixes each image, or what precomputed the frozen_prefix of it, with another of its
      replica's; see augment.build_mixer.

    train_steps(batches, seed, first_step, num_steps, says) returns float64
    [num_steps, 3]: of each step's examples the sum of the losses and the number of
    correct predictions, and the seconds it waited for input (NaN if deterministic); and
    the mean of every worker's `says` (float32 [n]), by which workers agree.
    """
    strategy = runtime.strategy
    replicas = strategy.num_replicas_in_sync
    variables = classifier.model.trainable_variables
    loss_scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    # Replicas can exchange their statistics only where XLA does not compile the model.
    freezing.synchronise_batch_norm(
        classifier.backbone, train_batch_norm and replicas > 1 and not runtime.jit
    )

    prefix = None
    if frozen_prefix is not None and not precomputed:
        with strategy.scope():
            prefix = build_prefix(
                [frozen_prefix], folded=folded, precision=runtime.precision
            )

    def compute_gradients(images, labels, mixed_in, weights, examples, seed):
        if prefix is not None:
            (images,) = prefix(classifier.normalise(images))
        with tf.GradientTape() as tape:
            logits = compute_logits(
                classifier,
                images,
                frozen_prefix=frozen_prefix,
                dropout_seed=seed,
                train_backbone=train_batch_norm,
            )
            losses = weights * _mixed_loss(labels, mixed_in, logits)
            # The sum over replicas of these is the mean over the global batch.
            loss = tf.reduce_sum(losses) / examples
            scaled = optimizer.scale_loss(loss) if loss_scaling else loss
        correct = tf.argmax(logits, axis=1, output_type=tf.int32) == labels
        sums = tf.stack(
            [
                tf.reduce_sum(losses),
                tf.reduce_sum(weights * tf.cast(correct, tf.float32)),
            ]
        )
        return tape.gradient(scaled, variables), sums

    if runtime.jit:
        # XLA compiles this core alone: in one program with it the augmentation would be
        # resampled anew for each colour, and variables of another replica cannot be
        # assigned inside a jitted function.
        compute_gradients = tf.function(compute_gradients, jit_compile=True)

    def replica_step(batch, seed, step, examples):
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        images = batch["image"]
        if not precomputed:
            # By the image, not by its place in a batch: the same change however a run
            # is spread, and the same that a view of the features was made with.
            seeds = counter_rng.row_seeds(tf.stack([seed, 0]), batch["position"])
            images = augment(images, seeds)
        # No two replicas, steps or epochs share their randomness, and none has a state:
        # a run that continues repeats nothing and loses nothing.
        seed = tf.stack([seed, step * replicas + replica])
        mixed_in = None
        if mix is not None:
            mixing_seed = tf.random.experimental.stateless_fold_in(seed, 2)
            images, partner, share = mix(images, mixing_seed, batch["weight"])
            mixed_in = (tf.gather(batch["label"], partner), share)
        gradients, sums = compute_gradients(
            images,
            batch["label"],
            mixed_in,
            batch["weight"],
            examples,
            tf.random.experimental.stateless_fold_in(seed, 1),
        )
        if loss_scaling and replicas > 1:
            # The scaler must see the same overflow on every replica, so it gets the
            # reduced gradients; apply() sums again, hence the division.
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / replicas for gradient in gradients]
        optimizer.apply(gradients, variables)
        return sums

    def read_clock(after):
        if runtime.deterministic:  # where TensorFlow allows no clock
            return tf.constant(np.nan, tf.float64)
        with tf.control_dependencies(after):
            return tf.timestamp()

    @tf.function
    def train_steps(batches, seed, first_step, num_steps, says):
        said = strategy.run(lambda: says)
        agreed = strategy.reduce(tf.distribute.ReduceOp.MEAN, said, axis=None)
        steps = tf.TensorArray(tf.float64, num_steps)
        sums = tf.zeros([2])
        for index in tf.range(num_steps):
            step = first_step + index
            # The clock starts when the step before is through and stops when the batch
            # is there: what lies between is waiting.
            asked = read_clock([sums])
            with tf.control_dependencies([asked]):
                batch = collectives.next_batch(strategy, batches)
            parts = strategy.experimental_local_results(batch["weight"])
            waited = read_clock(parts) - asked
            counted = strategy.run(tf.reduce_sum, args=(batch["weight"],))
            examples = strategy.reduce(tf.distribute.ReduceOp.SUM, counted, axis=None)
            per_replica = strategy.run(replica_step, args=(batch, seed, step, examples))
            sums = strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
            row = tf.concat([tf.cast(sums, tf.float64), [waited]], axis=0)
            steps = steps.write(index, row)
        return steps.stack(), agreed

    return train_steps


def _mixed_loss(labels, mixed_in, logits):
    """Cross-entropy float32 [B]; mixed_in: other labels and the share of one's own."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if mixed_in is None:
        return loss
    other_labels, share = mixed_in
    other = tf.nn.sparse_softmax_cross_entropy_with_logits(other_labels, logits)
    return share * loss + (1 - share) * other
