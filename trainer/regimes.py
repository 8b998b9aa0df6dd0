"""run_regimes(): trains one regime after the other, and continues where a run ended."""

import contextlib
import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline import augment, dataset, files
from pipeline.dataset import Records
from trainer import (
    checkpoints,
    evaluation,
    interrupt,
    loop,
    metrics,
    model,
    progress,
    runtime,
    stages,
)
from trainer.checkpoints import Checkpoint, Position
from trainer.config import Regime, TrainConfig
from trainer.interrupt import Requests
from trainer.loop import Update
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime

METRICS_FILE = "metrics.jsonl"

# Of a long epoch no more than this is lost when the machine dies.
_SECONDS_BETWEEN_CHECKPOINTS = 600.0


@dataclasses.dataclass(frozen=True)
class _Run:
    """What all regimes of a run share."""

    runtime: Runtime
    settings: TrainConfig
    model_dir: pathlib.Path
    classifier: Classifier
    requests: Requests
    train_records: Records
    val_records: Records
    frontier: Frontier | None = None
    train_crossed: bool = False
    val_crossed: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        return {
            "image_size": self.settings.image_size,
            "batch_size": self.settings.batch_size,
        }

    @property
    def epoch_steps(self) -> int:
        return dataset.num_batches(self.train_records.count, self.settings.batch_size)

    @property
    def can_continue_in_an_epoch(self) -> bool:
        """A data service keeps no order, so there no step is where another one was."""
        return self.settings.data_service is None

    def images_of(self, position: Position) -> int:
        """How many of the epoch's images are done."""
        done = position.step * self.settings.batch_size
        return min(done, self.train_records.count)


def run_regimes(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    requests: Requests,
    *,
    rows: Sequence[Regime],
    checkpoint: Checkpoint | None,
) -> Position:
    """Runs each regime from the best weights of the one before.

    Args:
      rows: the regimes, in order.
      checkpoint: where to continue; None starts anew.

    Returns:
      The last position: its history holds the lines of metrics.jsonl.

    Raises:
      FloatingPointError: the loss is no longer finite.
      interrupt.Stopped: asked to; a checkpoint is written.
    """
    cache = stages.describe_cache(settings, model_dir)
    with interrupt.busy(requests):
        train_records, val_records = (
            stages.read_records(run, settings, cache, split, requests)
            for split in ("train", "validation")
        )
    shared = _Run(
        runtime=run,
        settings=settings,
        model_dir=model_dir,
        classifier=classifier,
        requests=requests,
        train_records=train_records,
        val_records=val_records,
    )
    plan = stages.plan_stages(classifier, rows)
    position = checkpoint.position if checkpoint is not None else Position()
    if run.is_chief:
        write_metrics(model_dir, position)
    best: Sequence[np.ndarray] = ()
    for index, regime in enumerate(rows):
        if index < position.regime:
            continue
        frozen_layers = model.resolve_freeze(classifier.backbone, regime.frozen)
        model.freeze(classifier.backbone, frozen_layers)
        progress.print_regime(regime, classifier, frozen_layers=frozen_layers)
        optimizer = loop.make_optimizer(
            run,
            classifier,
            learning_rate=regime.learning_rate,
            momentum=regime.momentum,
            schedule=regime.schedule,
            total_steps=shared.epoch_steps * regime.epochs,
        )
        with run.strategy.scope():
            if checkpoint is not None and checkpoint.position.regime == index:
                checkpoints.restore_variables(
                    classifier.model.variables, checkpoint.variables
                )
                checkpoints.restore_variables(optimizer.variables, checkpoint.optimizer)
                best = checkpoint.best
                # Empty until an epoch is complete.
                if best and len(best) != len(model.list_unfrozen(classifier)):
                    raise ValueError(
                        "The checkpoint was written by another version of this "
                        f"program, which has to finish it. Received: {model_dir}"
                    )
            elif index > 0:
                # The weights it starts from are its first candidate, so that a regime
                # which gains nothing loses nothing either.
                best = checkpoints.capture(model.list_unfrozen(classifier))
                position = dataclasses.replace(
                    position,
                    regime=index,
                    epoch=0,
                    best=max(_rank(line) for line in position.history),
                )
        # Stopped comes where all workers agree and the variables are the position's.
        with interrupt.busy(requests):
            if position.epoch < regime.epochs:
                stages.cross_frontier(
                    run,
                    settings,
                    cache,
                    classifier,
                    plan[index:],
                    train_records=shared.train_records,
                    val_records=shared.val_records,
                    requests=requests,
                )
            stage = plan[index]
            ready = dataclasses.replace(
                shared,
                train_records=stage.train_records or shared.train_records,
                val_records=stage.val_records or shared.val_records,
                frontier=stage.frontier,
                train_crossed=stage.train_records is not None,
                val_crossed=stage.val_records is not None,
            )
            position, best = _run_regime(ready, regime, optimizer, position, best)
        with run.strategy.scope():
            checkpoints.restore_variables(model.list_unfrozen(classifier), best)
        if run.is_chief:
            checkpoints.save_best(classifier, model_dir, regime.name)
        runtime.wait_for_all(run)
    return position


def _rank(line: dict) -> tuple[float, float]:
    """Orders weights by validation accuracy, equal ones by validation loss."""
    return line["val_accuracy"], -line["val_loss"]


def _run_regime(
    run: _Run,
    regime: Regime,
    optimizer: keras.optimizers.Optimizer,
    position: Position,
    best: Sequence[np.ndarray],
) -> tuple[Position, Sequence[np.ndarray]]:
    """Trains and evaluates the epochs that are left.

    Returns:
      The position after the last epoch, and the regime's best weights.
    """
    train_steps = loop.make_train_steps(
        run.runtime,
        run.classifier,
        optimizer,
        augment.build_augmenter(run.settings.augment, xla=run.settings.xla != "off"),
        train_batch_norm=regime.train_batch_norm,
        frontier=run.frontier,
        folded=run.settings.fold_frozen,
        crossed=run.train_crossed,
        mix=None
        if run.settings.mix == "none"
        else augment.build_mixer(run.settings.mix),
    )
    crossed = run.frontier if run.val_crossed else None
    eval_step = evaluation.make_eval_step(run.runtime, run.classifier, crossed)
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
                keep=run.settings.keep_checkpoints,
            )

    batches = None
    try:
        while position.epoch < regime.epochs:
            # Else it was interrupted in its evaluation.
            if position.step < run.epoch_steps:
                if batches is None or run.settings.data_service is not None:
                    batches = _start_reading(run, position)
                for reached in _train_epoch(
                    run, regime, train_steps, batches, position, save
                ):
                    position = reached
            line = _evaluate_epoch(run, regime, eval_step, optimizer, position)
            if line["best"]:
                with run.runtime.strategy.scope():
                    best = checkpoints.capture(model.list_unfrozen(run.classifier))
            position = _complete_epoch(position, line)
            save(position)
            if run.runtime.is_chief:
                write_metrics(run.model_dir, position)
                _write_scalars(writer, line)
            progress.print_epoch(line, epochs=regime.epochs)
    except interrupt.Stopped:
        if position.step in (0, run.epoch_steps) or run.can_continue_in_an_epoch:
            save(position)
        raise
    return position, best


def _start_reading(run: _Run, position: Position) -> tf.data.Iterator:
    return loop.start_reading(
        run.runtime,
        run.train_records,
        epoch=len(position.history) + 1,
        seed=run.settings.seed,
        first_step=position.step,
        data_service=run.settings.data_service,
        **run.sizes,
    )


def _train_epoch(
    run: _Run,
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
        return bool(run.requests.requested), overdue

    updates = loop.train_epoch(
        train_steps,
        batches,
        steps=run.epoch_steps,
        epoch=epochs_before + 1,
        seed=run.settings.seed,
        first_step=position.step,
        pause_at=[step - steps_before for step in run.settings.profile_steps or ()],
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
                raise run.requests.stopped()
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
    run: _Run, regime: Regime, update: Update, position: Position
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
def _profiling(run: _Run) -> Iterator[Callable[[int], None]]:
    """Gives what is told each step, and profiles those of --profile_steps."""
    wanted = run.settings.profile_steps if run.runtime.is_chief else None
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
    run: _Run,
    regime: Regime,
    eval_step: Callable,
    optimizer: keras.optimizers.Optimizer,
    position: Position,
) -> dict:
    """Evaluates on validation and makes the epoch's line of metrics.jsonl."""
    start = time.monotonic()
    logits, labels = evaluation.evaluate(
        run.runtime, eval_step, run.val_records, requests=run.requests, **run.sizes
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
    return line | {"best": _rank(line) > position.best}


def _complete_epoch(position: Position, line: dict) -> Position:
    return dataclasses.replace(
        position,
        epoch=position.epoch + 1,
        step=0,
        loss_sum=0.0,
        correct_sum=0.0,
        seconds=0.0,
        waited_seconds=0.0,
        best=max(position.best, _rank(line)),
        history=(*position.history, line),
    )


def write_metrics(model_dir: pathlib.Path, position: Position) -> None:
    """Writes metrics.jsonl, one line for each complete epoch."""
    lines = [json.dumps(line) + "\n" for line in position.history]
    files.write_text(model_dir / METRICS_FILE, "".join(lines))


def _write_scalars(writer: tf.summary.SummaryWriter, line: dict) -> None:
    with writer.as_default(step=line["step"]):
        for name, value in line.items():
            if isinstance(value, float):
                tf.summary.scalar(name, value)
    writer.flush()
