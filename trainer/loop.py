"""The distributed train step, and the loop over it."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline import augment as augment_lib
from pipeline import dataset
from pipeline.augment import Augmenter, Mixer
from pipeline.dataset import Records
from trainer import fold as fold_lib
from trainer import model as model_lib
from trainer import runtime as runtime_lib
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime

# Many steps a call keep Python out of the way; few enough, in time, for progress to be
# seen and for a request to stop to be heard.
_SECONDS_PER_CALL = 1.0
_MOST_STEPS_PER_CALL = 64


@dataclasses.dataclass(frozen=True)
class Update:
    """What one call of a few steps did.

    done: steps of the epoch that are done now.
    losses, corrects: of each of its steps the sum over the examples.
    seconds, waited_seconds: that this call took, and waited for input (NaN if unknown).
    stop: whether a worker was asked to stop.
    save: whether a worker finds it time for a checkpoint.
    """

    done: int
    losses: tuple[float, ...]
    corrects: tuple[float, ...]
    seconds: float
    waited_seconds: float
    stop: bool
    save: bool


def make_optimizer(
    runtime: Runtime,
    classifier: Classifier,
    *,
    learning_rate: float,
    momentum: float,
    schedule: str,
    total_steps: int,
) -> keras.optimizers.Optimizer:
    """SGD with Nesterov momentum; float16 adds dynamic loss scaling.

    schedule: "notebook" divides the rate by 1 + 1e-6 a step, "constant" keeps it and
    "cosine" takes it to zero over total_steps.
    """
    rate = _make_schedule(schedule, learning_rate, total_steps)
    with runtime.strategy.scope():
        optimizer = keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0)
        if runtime.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(classifier.model.trainable_variables)
    return optimizer


def _make_schedule(name: str, learning_rate: float, total_steps: int):
    return {
        "notebook": keras.optimizers.schedules.InverseTimeDecay(
            learning_rate, decay_steps=1, decay_rate=1e-6
        ),
        "constant": learning_rate,
        "cosine": keras.optimizers.schedules.CosineDecay(learning_rate, total_steps),
    }[name]


def make_rates(schedule: str, learning_rate: float, total_steps: int) -> list[float]:
    """The learning rate of each step; see make_optimizer."""
    made = _make_schedule(schedule, learning_rate, total_steps)
    if not callable(made):
        return [made] * total_steps
    return [float(made(step)) for step in range(total_steps)]


def make_train_steps(
    runtime: Runtime,
    classifier: Classifier,
    optimizer: keras.optimizers.Optimizer,
    augment: Augmenter,
    *,
    train_batch_norm: bool,
    frontier: Frontier | None = None,
    folded: bool = False,
    crossed: bool = False,
    mix: Mixer | None = None,
) -> Callable:
    """Builds the function that runs steps of an epoch in one graph.

    frontier: of the regime; what lies before it behaves as in inference, dropout
      included.
    folded: with batch norm in the convolutions there, which is quicker and rounds
      otherwise.
    crossed: what the batches hold has crossed it, and is not augmented again.
    mix: mixes each image, or what crossed the frontier of it, with another of its
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
    model_lib.synchronise_batch_norm(
        classifier.backbone, train_batch_norm and replicas > 1 and not runtime.jit
    )

    prefix = None
    if frontier is not None and not crossed:
        with strategy.scope():
            prefix = fold_lib.make_prefix(
                [frontier], folded=folded, precision=runtime.precision
            )

    def compute_gradients(images, labels, mixed_in, weights, examples, seed):
        if prefix is not None:
            (images,) = prefix(classifier.normalise(images))
        with tf.GradientTape() as tape:
            logits = model_lib.compute_logits(
                classifier,
                images,
                frontier=frontier,
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
        if not crossed:
            # By the image, not by its place in a batch: the same change however a run
            # is spread, and the same that a view of the features was made with.
            seeds = augment_lib.row_seeds(tf.stack([seed, 0]), batch["position"])
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
                batch = runtime_lib.next_batch(strategy, batches)
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


def start_reading(
    runtime: Runtime,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    data_service: str | None = None,
) -> tf.data.Iterator:
    """What train_epoch takes its batches from; see dataset.make_train_dataset."""
    batches = dataset.make_train_dataset(
        records,
        image_size=image_size,
        batch_size=batch_size,
        per_replica_batch_size=batch_size // runtime.strategy.num_replicas_in_sync,
        epoch=epoch,
        seed=seed,
        first_step=first_step,
        share=runtime_lib.share_of(runtime),
        data_service=data_service,
    )
    return iter(batches)


def train_epoch(
    train_steps: Callable,
    batches: tf.data.Iterator,
    *,
    steps: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    pause_at: Sequence[int] = (),
    wants: Callable[[], tuple[bool, bool]] = lambda: (False, False),
) -> Iterator[Update]:
    """Trains one epoch, or what is left of it; yields an Update every second or so.

    Args:
      batches: from start_reading; stands before the epoch's first_step.
      steps: of the whole epoch.
      epoch: counts over all regimes, so that no two epochs of a run share randomness.
      first_step: how many steps of it were done before.
      pause_at: steps after which to yield in any case.
      wants: asked before each call; whether this worker wants to stop, to save.
    """
    done, num_steps, step_seconds = first_step, 1, 0.0
    while done < steps:
        start = time.monotonic()
        next_pause = min([pause for pause in pause_at if pause > done], default=steps)
        num_steps = min(num_steps, steps - done, next_pause - done)
        per_step, agreed = train_steps(
            batches,
            tf.constant(dataset.mix_seed(seed, epoch)),
            tf.constant(done),
            tf.constant(num_steps),
            tf.constant([*wants(), step_seconds], tf.float32),
        )
        losses, corrects, waited = per_step.numpy().T.tolist()
        stop, save, mean_step_seconds = agreed.numpy().tolist()
        seconds = time.monotonic() - start
        done += num_steps
        step_seconds = seconds / num_steps
        yield Update(
            done,
            tuple(losses),
            tuple(corrects),
            seconds,
            sum(waited),
            stop > 0,
            save > 0,
        )
        # From what all workers said, so that all take the same number of steps.
        if mean_step_seconds:
            num_steps = int(_SECONDS_PER_CALL / mean_step_seconds)
            num_steps = min(max(num_steps, 1), _MOST_STEPS_PER_CALL)
