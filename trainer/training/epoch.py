"""run_regimes(): trains one regime after the other, and continues where a run ended."""

import contextlib
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
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix
from trainer.training import checkpoints, loop, progress, run_dir
from trainer.training.checkpoints import Checkpoint, Position
from trainer.training.loop import Update
from trainer.training.step import make_train_steps

# Of a long epoch no more than this is lost when the machine dies.
_SECONDS_BETWEEN_CHECKPOINTS = 600.0


@dataclasses.dataclass(frozen=True)
class RegimeRun:
    """What all regimes of a run share."""

    runtime: Runtime
    config: TrainConfig
    model_dir: pathlib.Path
    classifier: Classifier
    train_records: Records
    val_records: Records
    frozen_prefix: FrozenPrefix | None = None
    train_precomputed: bool = False
    val_precomputed: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        return {
            "image_size": self.config.image_size,
            "batch_size": self.config.batch_size,
        }

    @property
    def epoch_steps(self) -> int:
        return num_batches(self.train_records.count, self.config.batch_size)

    @property
    def can_continue_in_an_epoch(self) -> bool:
        """A data service keeps no order, so there no step is where another one was."""
        return self.config.data_service is None

    def images_of(self, position: Position) -> int:
        """How many of the epoch's images are done."""
        done = position.step * self.config.batch_size
        return min(done, self.train_records.count)


def run_regime(
    run: RegimeRun,
    regime: Regime,
    optimizer: keras.optimizers.Optimizer,
    position: Position,
    best: Sequence[np.ndarray],
) -> tuple[Position, Sequence[np.ndarray]]:
    """Trains and evaluates the epochs that are left.

    Returns:
      The position after the last epoch, and the regime's best weights.
    """
    train_steps = make_train_steps(
        run.runtime,
        run.classifier,
        optimizer,
        build_augmenter(run.config.augment, xla=run.config.xla != "off"),
        train_batch_norm=regime.train_batch_norm,
        frozen_prefix=run.frozen_prefix,
        folded=run.config.fold_frozen,
        precomputed=run.train_precomputed,
        mix=None if run.config.mix == "none" else mixing.build_mixer(run.config.mix),
    )
    precomputed = run.frozen_prefix if run.val_precomputed else None
    eval_step = evaluate.make_eval_step(run.runtime, run.classifier, precomputed)
    tensorboard_dir = run.model_dir / "tensorboard" / regime.name
    writer = (
        tf.summary.create_file_writer(str(tensorboard_dir))
        if run.runtime.is_chief
        else None
    )

    def save(position: Position) -> None:
        if run.runtime.is_chief:
            with run.runtime.strategy.scope():
                variables = checkpoints.capture(run.classifier.model.variables)
                state = checkpoints.capture(optimizer.variables)
            checkpoints.save(
                run.model_dir,
                Checkpoint(position, variables, state, list(best)),
                keep=run.config.keep_checkpoints,
            )

    batches = None
    try:
        while position.epoch < regime.epochs:
            # Else it was interrupted in its evaluation.
            if position.step < run.epoch_steps:
                if batches is None or run.config.data_service is not None:
                    batches = _start_reading(run, position)
                for reached in _train_epoch(
                    run, regime, train_steps, batches, position, save
                ):
                    position = reached
            line = _evaluate_epoch(run, regime, eval_step, optimizer, position)
            if line["best"]:
                with run.runtime.strategy.scope():
                    best = checkpoints.capture(freezing.list_unfrozen(run.classifier))
            position = _complete_epoch(position, line)
            save(position)
            if run.runtime.is_chief:
                run_dir.write_metrics(run.model_dir, position)
                _write_scalars(writer, line)
            progress.print_epoch(line, epochs=regime.epochs)
    except Stopped:
        if position.step in (0, run.epoch_steps) or run.can_continue_in_an_epoch:
            save(position)
        raise
    return position, best


def _start_reading(run: RegimeRun, position: Position) -> tf.data.Iterator:
    return loop.start_reading(
        run.runtime,
        run.train_records,
        epoch=len(position.history) + 1,
        seed=run.config.seed,
        first_step=position.step,
        data_service=run.config.data_service,
        **run.sizes,
    )


def _train_epoch(
    run: RegimeRun,
    regime: Regime,
    train_steps: Callable,
    batches: tf.data.Iterator,
    position: Position,
    save: Callable[[Position], None],
) -> Iterator[Position]:
    """Trains what is left of an epoch; yields each position it comes to."""
    epochs_before = len(position.history)
    steps_before = epochs_before * run.epoch_steps
    saved_at = time.monotonic()

    def wants() -> tuple[bool, bool]:
        overdue = time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS
        return run.runtime.stop_signal.is_set, overdue

    updates = loop.train_epoch(
        train_steps,
        batches,
        steps=run.epoch_steps,
        epoch=epochs_before + 1,
        seed=run.config.seed,
        first_step=position.step,
        pause_at=[step - steps_before for step in run.config.profile_steps or ()],
        wants=wants,
    )
    label = f"{regime.name} {position.epoch + 1}/{regime.epochs}"
    with (
        _profiling(run) as profile,
        progress.follow(label, images=run.train_records.count) as show,
    ):
        profile(position.total_steps)
        for update in updates:
            _check_finite(run, regime, update, position)
            position = _advance(position, update)
            yield position
            profile(position.total_steps)
            show(position, images=run.images_of(position))
            if update.stop:
                raise run.runtime.stop_signal.make_exception()
            if update.save and run.can_continue_in_an_epoch:
                save(position)
                saved_at = time.monotonic()


def _advance(position: Position, update: Update) -> Position:
    loss_sum, correct_sum = position.loss_sum, position.correct_sum
    # One by one: the sum must not depend on how many steps a call took.
    for loss, correct in zip(update.losses, update.corrects, strict=True):
        loss_sum, correct_sum = loss_sum + loss, correct_sum + correct
    return dataclasses.replace(
        position,
        step=update.done,
        loss_sum=loss_sum,
        correct_sum=correct_sum,
        seconds=position.seconds + update.seconds,
        waited_seconds=position.waited_seconds + update.waited_seconds,
        total_steps=position.total_steps + len(update.losses),
    )


def _check_finite(
    run: RegimeRun, regime: Regime, update: Update, position: Position
) -> None:
    # A step that the loss scaling skips has infinite gradients, but a finite loss.
    for index, loss in enumerate(update.losses):
        if not math.isfinite(loss):
            newest = checkpoints.list_checkpoints(run.model_dir)[:1]
            good = (
                f"the last good checkpoint is {newest[0]}"
                if newest
                else ("no checkpoint was written before")
            )
            raise FloatingPointError(
                f"The loss became {loss} in step {position.total_steps + index + 1} of "
                f"the run, in epoch {position.epoch + 1} of {regime.name}; {good}. Try "
                f"a smaller --{regime.name}_lr. Received: "
                f"--{regime.name}_lr={regime.learning_rate:g}"
            )


@contextlib.contextmanager
def _profiling(run: RegimeRun) -> Iterator[Callable[[int], None]]:
    """Gives what is told each step, and profiles those of --profile_steps."""
    wanted = run.config.profile_steps if run.runtime.is_chief else None
    running = False

    def profile(step: int) -> None:
        nonlocal running
        if wanted is not None and running != (wanted[0] <= step < wanted[1]):
            if running:
                tf.profiler.experimental.stop()
            else:
                tf.profiler.experimental.start(str(run.model_dir / "tensorboard"))
            running = not running

    try:
        yield profile
    finally:
        if running:
            tf.profiler.experimental.stop()


def _evaluate_epoch(
    run: RegimeRun,
    regime: Regime,
    eval_step: Callable,
    optimizer: keras.optimizers.Optimizer,
    position: Position,
) -> dict:
    """Evaluates on validation and makes the epoch's line of metrics.jsonl."""
    start = time.monotonic()
    logits, labels = evaluate.evaluate(
        run.runtime, eval_step, run.val_records, **run.sizes
    )
    val_accuracy, val_loss = metrics.accuracy_and_loss(logits, labels)
    count = run.train_records.count
    line = {
        "regime": regime.name,
        "epoch": position.epoch + 1,
        "step": position.total_steps,
        "train_loss": position.loss_sum / count,
        "train_accuracy": position.correct_sum / count,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "learning_rate": float(optimizer.learning_rate),
        "images_per_second": count / position.seconds,
        "input_wait": None
        if math.isnan(position.waited_seconds)
        else position.waited_seconds / position.seconds,
        "seconds": position.seconds,
        "val_seconds": time.monotonic() - start,
    }
    return line | {"best": rank(line) > position.best}


def _complete_epoch(position: Position, line: dict) -> Position:
    return dataclasses.replace(
        position,
        epoch=position.epoch + 1,
        step=0,
        loss_sum=0.0,
        correct_sum=0.0,
        seconds=0.0,
        waited_seconds=0.0,
        best=max(position.best, rank(line)),
        history=(*position.history, line),
    )


def _write_scalars(writer: tf.summary.SummaryWriter, line: dict) -> None:
    with writer.as_default(step=line["step"]):
        for name, value in line.items():
            if isinstance(value, float):
                tf.summary.scalar(name, value)
    writer.flush()
