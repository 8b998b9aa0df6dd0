"""Trains and validates the epochs of one regime, and saves the state after each."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pipeline.augmentation import mixing
from pipeline.augmentation.augmenter import build_augmenter
from trainer.distribution.preemption import Stopped
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.models import freezing
from trainer.training import checkpoints, loop, progress, run_dir, tensorboard
from trainer.training.batch_reader import BatchReader
from trainer.training.checkpoints import Checkpoint, CheckpointWriter
from trainer.training.input_advice import advise_on_input
from trainer.training.loop import Update
from trainer.training.position import Position, advance, complete_epoch
from trainer.training.regime_run import RegimeRun
from trainer.training.step import make_train_steps
from trainer.training.validation import make_eval_step, validate_epoch

# If the machine fails in a long epoch, the run loses at most about this time.
_SECONDS_BETWEEN_CHECKPOINTS = 600.0
# The first steps of a regime are slower: the graph is traced, and caches are filled.
_SLOW_STEPS = 4


def run_epochs(
    run: RegimeRun, position: Position, best_weights: Sequence[np.ndarray]
) -> tuple[Position, Sequence[np.ndarray]]:
    """Trains and validates the remaining epochs of a regime.

    Args:
      position: where the run is; its regime is that of `run`.
      best_weights: the best weights so far; see checkpoints.Checkpoint.

    Returns:
      The position after the last epoch, and the best weights of the regime.

    Raises:
      FloatingPointError: the loss is no longer finite.
      preemption.Stopped: the process was asked to stop; a checkpoint is written.
    """
    train_steps = build_train_steps(run)
    eval_step = make_eval_step(run)
    write_scalars = tensorboard.make_scalar_writer(
        run.runtime, run.model_dir, run.regime.name
    )
    batches = BatchReader(run)
    with contextlib.closing(CheckpointWriter()) as writer:
        try:
            while position.epoch < run.regime.epochs:
                # A run that was interrupted in a validation has done all steps already.
                if position.step < run.count_steps(position.epoch):
                    for new_position in _train_epoch(
                        run, train_steps, batches, position, best_weights, writer=writer
                    ):
                        position = new_position
                line = validate_epoch(run, eval_step, position)
                if line["best"]:
                    with run.runtime.strategy.scope():
                        best_weights = checkpoints.capture(
                            freezing.list_unfrozen(run.classifier)
                        )
                position = complete_epoch(position, line)
                _save(run, writer, position, best_weights)
                _report_epoch(run, position.history)
                write_scalars(line)
        except Stopped:
            is_between = position.step in (0, run.count_steps(position.epoch))
            if is_between or run.can_resume_in_epoch:
                _save(run, writer, position, best_weights)
            raise
    return position, best_weights


def build_train_steps(run: RegimeRun) -> Callable:
    """Builds the steps of a regime; see step.make_train_steps."""
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
        class_weights=run.balance.weights,
    )


def _report_epoch(run: RegimeRun, history: Sequence[EpochMetrics]) -> None:
    """Writes metrics.jsonl, on the chief, and prints the figures of the last epoch."""
    line = history[-1]
    if run.runtime.is_chief:
        run_dir.write_metrics(run.model_dir, history)
    progress.print_epoch(line, epochs=run.regime.epochs)
    if line["epoch"] == 1 and (advice := advise_on_input(run, line)):
        print(advice, flush=True)


def _save(
    run: RegimeRun,
    writer: CheckpointWriter,
    position: Position,
    best_weights: Sequence[np.ndarray],
) -> None:
    """Starts to write a checkpoint of the current variables, on the chief."""
    if not run.runtime.is_chief:
        return
    with run.runtime.strategy.scope():
        variables = checkpoints.capture(run.classifier.model.variables)
        optimizer = checkpoints.capture(run.optimizer.variables)
    writer.save(
        run.model_dir,
        Checkpoint(position, variables, optimizer, list(best_weights)),
        keep=run.config.keep_checkpoints,
    )


def _train_epoch(
    run: RegimeRun,
    train_steps: Callable,
    batches: BatchReader,
    position: Position,
    best_weights: Sequence[np.ndarray],
    *,
    writer: CheckpointWriter,
) -> Iterator[Position]:
    """Trains the rest of an epoch; yields the position after each call of steps."""
    epoch_steps = run.count_steps(position.epoch)
    images = run.count_images(epoch_steps)
    saved_at = time.monotonic()

    def read_stop_and_save() -> tuple[bool, bool]:
        is_overdue = time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS
        return run.runtime.stop_signal.is_set, is_overdue

    label = f"{run.regime.name} {position.epoch + 1}/{run.regime.epochs}"
    with (
        tensorboard.make_profiler(
            run.runtime, run.model_dir, run.config.profile_steps
        ) as profile,
        progress.follow(label, images=images) as show,
    ):
        profile(position.total_steps)
        while position.step < epoch_steps:
            for update in _train_pass(
                run, train_steps, batches, position, read_stop_and_save
            ):
                _check_finite(run, writer, update, position)
                before, position = position, advance(position, update)
                yield position
                if not position.epoch and before.step < _SLOW_STEPS <= position.step:
                    step_seconds = update.seconds / len(update.losses)
                    progress.print_duration(run.regime, step_seconds=step_seconds)
                profile(position.total_steps)
                show(position, images=run.count_images(position.step))
                if update.stop:
                    raise run.runtime.stop_signal.make_exception()
                if update.save and run.can_resume_in_epoch:
                    _save(run, writer, position, best_weights)
                    saved_at = time.monotonic()


def _train_pass(
    run: RegimeRun,
    train_steps: Callable,
    batches: BatchReader,
    position: Position,
    read_stop_and_save: Callable[[], tuple[bool, bool]],
) -> Iterator[Update]:
    """Trains the rest of a pass, up to the end of the epoch."""
    pass_number, first_step = run.place(position)
    left = run.count_steps(position.epoch) - position.step
    steps_before = position.total_steps - first_step
    return loop.train_epoch(
        train_steps,
        batches.read_on(pass_number, first_step),
        steps=min(run.pass_steps, first_step + left),
        epoch=pass_number,
        seed=run.config.seed,
        first_step=first_step,
        pause_at=[step - steps_before for step in run.config.profile_steps or ()],
        read_stop_and_save=read_stop_and_save,
    )


def _check_finite(
    run: RegimeRun, writer: CheckpointWriter, update: Update, position: Position
) -> None:
    # A step that the loss scaling skips has infinite gradients, but a finite loss.
    for index, loss in enumerate(update.losses):
        if not math.isfinite(loss):
            writer.wait()
            newest = checkpoints.list_checkpoints(run.model_dir)[:1]
            last_good = (
                f"the last good checkpoint is {newest[0]}"
                if newest
                else "no checkpoint was written before"
            )
            name = run.regime.name
            flag = "head" if name == "head" else "finetune"
            raise FloatingPointError(
                f"The loss became {loss} in step {position.total_steps + index + 1} of "
                f"the run, in epoch {position.epoch + 1} of {name}; {last_good}. Try a "
                f"smaller --{flag}_lr. Received: a rate of "
                f"{run.regime.learning_rate:g}"
            )
