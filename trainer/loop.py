"""The distributed train and eval steps, and the loops over them."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from pipeline import dataset
from pipeline.augment import Augmenter
from pipeline.dataset import Records, Share
from trainer import model as model_lib
from trainer.model import Classifier
from trainer.runtime import Runtime

# Many steps a call keep Python out of the way; few enough for progress to be seen.
_STEPS_PER_CALL = 8


@dataclasses.dataclass(frozen=True)
class EpochResult:
    """Means over one epoch's examples, as augmented and while training."""

    loss: float
    accuracy: float
    seconds: float


def make_optimizer(
    runtime: Runtime,
    classifier: Classifier,
    *,
    learning_rate: float,
    schedule: str,
    total_steps: int,
) -> keras.optimizers.Optimizer:
    """SGD with Nesterov momentum 0.9; float16 adds dynamic loss scaling.

    schedule: "notebook" divides the rate by 1 + 1e-6 a step, "constant" keeps it and
    "cosine" takes it to zero over total_steps.
    """
    rates = {
        "notebook": keras.optimizers.schedules.InverseTimeDecay(
            learning_rate, decay_steps=1, decay_rate=1e-6
        ),
        "constant": learning_rate,
        "cosine": keras.optimizers.schedules.CosineDecay(learning_rate, total_steps),
    }
    with runtime.strategy.scope():
        optimizer = keras.optimizers.SGD(rates[schedule], momentum=0.9, nesterov=True)
        if runtime.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(classifier.model.trainable_variables)
    return optimizer


def make_train_steps(
    runtime: Runtime,
    classifier: Classifier,
    optimizer: keras.optimizers.Optimizer,
    augment: Augmenter,
    *,
    train_batch_norm: bool,
) -> Callable:
    """Builds train_steps(iterator, seed, first_step, num_steps, batch_size, count).

    It runs num_steps steps of an epoch of count examples in one graph and returns the
    sums float32 [2] of loss and of correct predictions over their examples.
    """
    strategy = runtime.strategy
    replicas = strategy.num_replicas_in_sync
    variables = classifier.model.trainable_variables
    loss_scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    # XLA compiles this core alone: the augmentation's projective transform has no XLA
    # kernel, and variables of another replica cannot be assigned inside a jitted
    # function.
    @tf.function(jit_compile=runtime.jit)
    def compute_gradients(images, labels, weights, examples):
        with tf.GradientTape() as tape:
            logits = model_lib.compute_logits(
                classifier, images, train_head=True, train_backbone=train_batch_norm
            )
            losses = weights * tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, logits
            )
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

    def replica_step(batch, seed, step, examples):
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        images = augment(batch["image"], tf.stack([seed, step * replicas + replica]))
        gradients, sums = compute_gradients(
            images, batch["label"], batch["weight"], examples
        )
        if loss_scaling and replicas > 1:
            # The scaler must see the same overflow on every replica, so it gets the
            # reduced gradients; apply() sums again, hence the division.
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / replicas for gradient in gradients]
        optimizer.apply(gradients, variables)
        return sums

    @tf.function
    def train_steps(iterator, seed, first_step, num_steps, batch_size, count):
        total = tf.zeros([2])
        for step in tf.range(first_step, first_step + num_steps):
            examples = tf.minimum(batch_size, count - step * batch_size)
            per_replica = strategy.run(
                replica_step,
                args=(next(iterator), seed, step, tf.cast(examples, tf.float32)),
            )
            total += strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
        return total

    return train_steps


def train_epoch(
    runtime: Runtime,
    train_steps: Callable,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    epoch: int,
    seed: int,
) -> Iterator[tuple[int, int, EpochResult]]:
    """Trains one epoch; yields (step, steps of the epoch, result so far) now and then.

    epoch counts over all regimes, so that no two epochs of a run share randomness.
    """

    def make_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return dataset.make_train_dataset(
            records,
            image_size=image_size,
            batch_size=batch_size,
            per_replica_batch_size=context.get_per_replica_batch_size(batch_size),
            epoch=epoch,
            seed=seed,
            share=Share(context.num_input_pipelines, context.input_pipeline_id),
        )

    start = time.monotonic()
    batches = runtime.strategy.distribute_datasets_from_function(make_dataset)
    iterator = iter(batches)
    steps = dataset.num_batches(records.count, batch_size)
    total = np.zeros(2)
    for first in range(0, steps, _STEPS_PER_CALL):
        num_steps = min(_STEPS_PER_CALL, steps - first)
        sums = train_steps(
            iterator,
            tf.constant(dataset.mix_seed(seed, epoch)),
            tf.constant(first),
            tf.constant(num_steps),
            tf.constant(batch_size),
            tf.constant(records.count),
        )
        total += sums.numpy()
        done = first + num_steps
        loss, accuracy = total / min(done * batch_size, records.count)
        seconds = time.monotonic() - start
        yield done, steps, EpochResult(float(loss), float(accuracy), seconds)


def make_eval_step(runtime: Runtime, classifier: Classifier) -> Callable:
    """Builds eval_step(batch) -> per-replica (logits, labels, weights)."""

    @tf.function(jit_compile=runtime.jit)
    def compute(images):
        return model_lib.compute_logits(classifier, images)

    def replica_step(batch):
        return compute(batch["image"]), batch["label"], batch["weight"]

    return tf.function(lambda batch: runtime.strategy.run(replica_step, args=(batch,)))


def evaluate(
    runtime: Runtime,
    eval_step: Callable,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Classifies every example of a split exactly once.

    Returns:
      logits float32 [N, K] and labels int32 [N], in stored order.
    """

    def make_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return dataset.make_eval_dataset(
            records,
            image_size=image_size,
            batch_size=batch_size,
            per_replica_batch_size=context.get_per_replica_batch_size(batch_size),
            share=Share(context.num_input_pipelines, context.input_pipeline_id),
        )

    parts = []
    for batch in runtime.strategy.distribute_datasets_from_function(make_dataset):
        gathered = [
            runtime.strategy.gather(part, axis=0).numpy() for part in eval_step(batch)
        ]
        parts.append(gathered)
    logits, labels, weights = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    counted = weights > 0
    if counted.sum() != records.count:
        raise RuntimeError(
            f"evaluated {counted.sum()} examples of {records.count}: a bug, not a "
            "mistake of yours"
        )
    return logits[counted], labels[counted]
