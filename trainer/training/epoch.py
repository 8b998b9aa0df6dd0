"""Trains and validates the epochs of one regime, and saves the state after each."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline.augmentation import mixing
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import Records
from trainer.config.regimes import Regime, rank
from trainer.config.train_config import TrainConfig
from trainer.distribution.preemption import Stopped
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate, metrics
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.features.plan import RegimeInput
from trainer.models import freezing
from trainer.models.classifier import Classifier
from trainer.training import checkpoints, loop, progress, run_dir, tensorboard
from trainer.training.checkpoints import Checkpoint
from trainer.training.loop import Update
from trainer.training.position import Position, advance, complete_epoch
from trainer.training.step import make_train_steps

# If the machine fails in a long epoch, the run loses at most this time.
_SECONDS_BETWEEN_CHECKPOINTS = 600.0

# What an accuracy and a loss are compared with before the first validation.
_NO_RANK = (-1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class RegimeRun:
    """One regime of a run; nothing in it changes while its epochs run.

    inputs: the frozen prefix and the features that replace the images.
    train_images, val_images: the images of both splits.
    """

    runtime: Runtime
    config: TrainConfig
    model_dir: pathlib.Path
    classifier: Classifier
    regime: Regime
    optimizer: keras.optimizers.Optimizer
    inputs: RegimeInput
    train_images: Records
    val_images: Records

    @property
    def train_records(self) -> Records:
        """The features of the training images, or the images."""
        return self.inputs.train_features or self.train_images

    @property
    def val_records(self) -> Records:
        """The features of the validation images, or the images."""
        return self.inputs.val_features or self.val_images

    @property
    def epoch_steps(self) -> int:
        """Number of steps of an epoch."""
        return num_batches(self.train_records.count, self.config.batch_size)

    @property
    def can_resume_in_epoch(self) -> bool:
        """False with a data service, which keeps no order: no step can be repeated."""
        return self.config.data_service is None

    def count_images(self, position: Position) -> int:
        """Returns how many images of the current epoch are done."""
        done = position.step * self.config.batch_size
        return min(done, self.train_records.count)


def run_epochs(
    run: RegimeRun, position: Position, best_weights: Sequence[np.ndarray]
) -> tuple[Position, Sequence[np.ndarray]]:
    """Trains and validates the remaining epochs of a regime.

    Args:
      best_weights: the best weights so far; see checkpoints.Checkpoint.

    Returns:
      The position after the last epoch, and the best weights of the regime.

    Raises:
      FloatingPointError: the loss is no longer finite.
      preemption.Stopped: the process was asked to stop; a checkpoint is written.
    """
    train_steps = _make_train_steps(run)
    eval_step = evaluate.make_eval_step(
        run.runtime,
        run.classifier,
        None if run.inputs.val_features is None else run.inputs.frozen_prefix,
    )
    write_scalars = tensorboard.make_scalar_writer(
        run.runtime, run.model_dir, run.regime.name
    )
    batches = None
    try:
        while position.epoch < run.regime.epochs:
            # A run that was interrupted in a validation has done all steps already.
            if position.step < run.epoch_steps:
                if batches is None or run.config.data_service is not None:
                    batches = _start_reading(run, position)
                for new_position in _train_epoch(
                    run, train_steps, batches, position, best_weights
                ):
                    position = new_position
            line = _validate_epoch(run, eval_step, position)
            if line["best"]:
                with run.runtime.strategy.scope():
                    best_weights = checkpoints.capture(
                        freezing.list_unfrozen(run.classifier)
                    )
            position = complete_epoch(position, line)
            _save(run, position, best_weights)
            if run.runtime.is_chief:
                run_dir.write_metrics(run.model_dir, position.history)
            write_scalars(line)
            progress.print_epoch(line, epochs=run.regime.epochs)
    except Stopped:
        if position.step in (0, run.epoch_steps) or run.can_resume_in_epoch:
            _save(run, position, best_weights)
        raise
    return position, best_weights


def _make_train_steps(run: RegimeRun) -> Callable:
    config = run.config
    return make_train_steps(
        run.runtime,
        run.classifier,
        run.optimizer,
        build_augmenter(config.augment, xla=config.xla != "off"),
        train_batch_norm=run.regime.train_batch_norm,
        frozen_prefix=run.inputs.frozen_prefix,
        fuse_batch_norm=config.fuse_batch_norm,
        precomputed=run.inputs.train_features is not None,
        label_smoothing=config.label_smoothing,
        mix=None if config.mix == "none" else mixing.build_mixer(config.mix),
    )


def _save(
    run: RegimeRun, position: Position, best_weights: Sequence[np.ndarray]
) -> None:
    """Writes a checkpoint of the current variables, on the chief."""
    if not run.runtime.is_chief:
        return
    with run.runtime.strategy.scope():
        variables = checkpoints.capture(run.classifier.model.variables)
        optimizer = checkpoints.capture(run.optimizer.variables)
    checkpoints.save(
        run.model_dir,
        Checkpoint(position, variables, optimizer, list(best_weights)),
        keep=run.config.keep_checkpoints,
    )


def _start_reading(run: RegimeRun, position: Position) -> tf.data.Iterator:
    return loop.start_reading(
        run.runtime,
        run.train_records,
        image_size=run.config.image_size,
        batch_size=run.config.batch_size,
        epoch=len(position.history) + 1,
        seed=run.config.seed,
        first_step=position.step,
        data_service=run.config.data_service,
    )


def _train_epoch(
    run: RegimeRun,
    train_steps: Callable,
    batches: tf.data.Iterator,
    position: Position,
    best_weights: Sequence[np.ndarray],
) -> Iterator[Position]:
    """Trains the rest of an epoch; yields the position after each call of steps."""
    epochs_before = len(position.history)
    steps_before = position.total_steps - position.step
    saved_at = time.monotonic()

    def read_stop_and_save() -> tuple[bool, bool]:
        is_overdue = time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS
        return run.runtime.stop_signal.is_set, is_overdue

    updates = loop.train_epoch(
        train_steps,
        batches,
        steps=run.epoch_steps,
        epoch=epochs_before + 1,
        seed=run.config.seed,
        first_step=position.step,
        pause_at=[step - steps_before for step in run.config.profile_steps or ()],
        read_stop_and_save=read_stop_and_save,
    )
    label = f"{run.regime.name} {position.epoch + 1}/{run.regime.epochs}"
    with (
        tensorboard.make_profiler(
            run.runtime, run.model_dir, run.config.profile_steps
        ) as profile,
        progress.follow(label, images=run.train_records.count) as show,
    ):
        profile(position.total_steps)
        for update in updates:
            _check_finite(run, update, position)
            position = advance(position, update)
            yield position
            profile(position.total_steps)
            show(position, images=run.count_images(position))
            if update.stop:
                raise run.runtime.stop_signal.make_exception()
            if update.save and run.can_resume_in_epoch:
                _save(run, position, best_weights)
                saved_at = time.monotonic()


def _check_finite(run: RegimeRun, update: Update, position: Position) -> None:
    # A step that the loss scaling skips has infinite gradients, but a finite loss.
    for index, loss in enumerate(update.losses):
        if not math.isfinite(loss):
            newest = checkpoints.list_checkpoints(run.model_dir)[:1]
            last_good = (
                f"the last good checkpoint is {newest[0]}"
                if newest
                else "no checkpoint was written before"
            )
            name = run.regime.name
            raise FloatingPointError(
                f"The loss became {loss} in step {position.total_steps + index + 1} of "
                f"the run, in epoch {position.epoch + 1} of {name}; {last_good}. Try a "
                f"smaller --{name}_lr. Received: "
                f"--{name}_lr={run.regime.learning_rate:g}"
            )


def _validate_epoch(
    run: RegimeRun, eval_step: Callable, position: Position
) -> EpochMetrics:
    start = time.monotonic()
    logits, labels = evaluate.evaluate(
        run.runtime,
        eval_step,
        run.val_records,
        image_size=run.config.image_size,
        batch_size=run.config.batch_size,
    )
    val_accuracy, val_loss = metrics.accuracy_and_loss(logits, labels)
    best_rank = max(
        (rank(line["val_accuracy"], line["val_loss"]) for line in position.history),
        default=_NO_RANK,
    )
    count = run.train_records.count
    return EpochMetrics(
        regime=run.regime.name,
        epoch=position.epoch + 1,
        step=position.total_steps,
        train_loss=position.loss_sum / count,
        train_accuracy=position.correct_sum / count,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=float(run.optimizer.learning_rate),
        images_per_second=count / position.seconds,
        input_wait=None
        if math.isnan(position.waited_seconds)
        else position.waited_seconds / position.seconds,
        seconds=position.seconds,
        val_seconds=time.monotonic() - start,
        best=rank(val_accuracy, val_loss) > best_rank,
    )
