"""Trains one regime after the other, and continues where a run was interrupted."""

import dataclasses
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from pipeline.loading.order import num_batches
from trainer.config.class_balance import ClassBalance
from trainer.config.regimes import Regime
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.runtime import Runtime
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.features.plan import (
    cache_from_config,
    load_features,
    plan_inputs,
    read_images,
)
from trainer.models import backbones, freezing
from trainer.models.classifier import Classifier
from trainer.training import budget, checkpoints, progress, run_config, run_dir
from trainer.training.budget import Clock
from trainer.training.checkpoints import Checkpoint
from trainer.training.epoch import build_train_steps, run_epochs
from trainer.training.optimizer import make_optimizer
from trainer.training.position import Position
from trainer.training.regime_run import RegimeRun
from trainer.training.validation import (
    find_clearly_better,
    find_errors,
)


# Longer than 60 lines: the order of these calls is what makes a run continue exactly.
def train_regimes(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    *,
    regimes: Sequence[Regime],
    balance: ClassBalance,
    checkpoint: Checkpoint | None,
    history: tuple[EpochMetrics, ...] = (),
    clock: Clock | None = None,
) -> Position:
    """Trains each regime, from the best weights of the one before.

    Args:
      regimes: the regimes in order, from plan_steps().
      balance: weights of the classes, and what chooses the best epoch.
      checkpoint: where to continue; None starts a new run.
      history: figures of the weights that a new run starts from, if they are the first
        candidate of the first regime.
      clock: with --minutes, the time that the command has used; see budget.fit_regime.

    Returns:
      The last position: its history holds the lines of metrics.jsonl.

    Raises:
      FloatingPointError: the loss is no longer finite.
      preemption.Stopped: the process was asked to stop; a checkpoint is written.
    """
    cache = cache_from_config(config, model_dir)
    with preemption.defer(runtime.stop_signal):
        train_images = read_images(runtime, config, cache, "train")
        val_images = read_images(runtime, config, cache, "validation")
    pass_steps = num_batches(train_images.count, config.batch_size)
    inputs = plan_inputs(classifier, regimes)
    position = Position(history=history)
    if checkpoint is not None:
        position = checkpoint.position
    if runtime.is_chief:
        run_dir.write_metrics(model_dir, position.history)
    first_regime = position.regime
    for index, regime in enumerate(regimes[first_regime:], start=first_regime):
        stored_steps = _read_steps(runtime, config, model_dir, regime)
        regime = budget.recall_regime(regime, stored_steps)
        _freeze_for(
            runtime,
            classifier,
            regime,
            pass_steps=pass_steps,
            images=train_images.count,
        )
        optimizer = _make_optimizer(runtime, classifier, regime)
        best_weights: Sequence[np.ndarray] = ()
        with runtime.strategy.scope():
            if checkpoint is not None and index == first_regime:
                best_weights = _restore(classifier, optimizer, checkpoint, model_dir)
            elif index > 0 or position.history:
                # The weights that a regime starts from are its first candidate: if no
                # epoch is better, the regime ends with them.
                best_weights = checkpoints.capture(freezing.list_unfrozen(classifier))
                position = dataclasses.replace(position, regime=index, epoch=0)
        # Inside defer(), Stopped is raised only where all workers agree to stop and the
        # variables match the position, so that the checkpoint is consistent.
        with preemption.defer(runtime.stop_signal):
            if position.epoch < regime.epochs or regime.result == "average":
                inputs[index:] = load_features(
                    runtime,
                    config,
                    cache,
                    classifier,
                    inputs[index:],
                    train_images=train_images,
                    val_images=val_images,
                )
            run = RegimeRun(
                runtime=runtime,
                config=config,
                model_dir=model_dir,
                classifier=classifier,
                regime=regime,
                first_pass=_number_first_pass(regimes[:index], pass_steps, position),
                balance=balance,
                optimizer=optimizer,
                inputs=inputs[index],
                train_images=train_images,
                val_images=val_images,
            )
            if clock is not None and regime.steps and stored_steps is None:
                run = _fit_to_minutes(
                    run, regimes[index + 1 :], clock, has_result=bool(position.history)
                )
            position, best_weights = run_epochs(run, position, best_weights)
        if regime.result == "average" and index > 0 and run.regime.steps:
            best_weights = _average_with_start(
                run, start_regime=regimes[index - 1].name
            )
        _use_best_weights(runtime, classifier, best_weights)
        if runtime.is_chief:
            run_dir.save_best_weights(classifier, model_dir, regime.name)
        collectives.barrier(runtime)
    return position


def _read_steps(
    runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path, regime: Regime
) -> int | None:
    """Returns the number of steps that --minutes gave a regime; None before that."""
    if config.minutes is None:
        return None
    stored = run_config.read_steps(model_dir) if runtime.is_chief else {}
    steps = collectives.broadcast_from_chief(runtime, stored.get(regime.name, -1))
    return None if steps < 0 else steps


def _fit_to_minutes(
    run: RegimeRun, later: Sequence[Regime], clock: Clock, *, has_result: bool
) -> RegimeRun:
    """Returns the run with a regime that fits into --minutes and a new optimizer."""
    fitted = budget.fit_regime(
        run, build_train_steps(run), later, clock=clock, has_result=has_result
    )
    optimizer = _make_optimizer(run.runtime, run.classifier, fitted)
    return dataclasses.replace(run, regime=fitted, optimizer=optimizer)


def _number_first_pass(
    before: Sequence[Regime], pass_steps: int, position: Position
) -> int:
    """Returns the number of the first pass of a regime; a solved head counts as one.

    before: the regimes before this one.
    """
    is_solved = any(line["epoch"] == 0 for line in position.history)
    passes = sum(num_batches(regime.steps, pass_steps) for regime in before)
    return 1 + is_solved + passes


def _use_best_weights(
    runtime: Runtime, classifier: Classifier, best_weights: Sequence[np.ndarray]
) -> None:
    with runtime.strategy.scope():
        checkpoints.restore_variables(freezing.list_unfrozen(classifier), best_weights)


def _average_with_start(run: RegimeRun, start_regime: str) -> Sequence[np.ndarray]:
    """Returns the mean of the weights before the regime and after its last epoch.

    The method is WiSE-FT (Wortsman et al., 2022, "Robust fine-tuning of zero-shot
    models"). The mean of two good models can be bad if they are far from each other.
    Therefore the weights before, or those after the last epoch, are returned if they
    are clearly better on validation; see find_clearly_better.

    start_regime: the regime before, whose best weights are stored.
    """
    classifier = run.classifier
    with run.runtime.strategy.scope():
        weights = freezing.list_unfrozen(classifier)
        last = checkpoints.capture(weights)
        path = run_dir.best_weights_path(run.model_dir, start_regime)
        backbones.load_weights(classifier.model, str(path))
        start = checkpoints.capture(weights)
    candidates = {
        "mean": [(a + b) / 2 for a, b in zip(start, last, strict=True)],
        "start": start,
        "last epoch": last,
    }
    errors = find_errors(run, list(candidates.values()))
    chosen = list(candidates)[find_clearly_better(errors)]
    accuracies = dict(zip(candidates, (1 - errors.mean(axis=1)).tolist(), strict=True))
    progress.print_average(
        run.regime, run.balance.chosen_by, accuracies=accuracies, chosen=chosen
    )
    return candidates[chosen]


def _freeze_for(
    runtime: Runtime,
    classifier: Classifier,
    regime: Regime,
    *,
    pass_steps: int,
    images: int,
) -> None:
    """Freezes the backbone as a regime says and prints what trains.

    pass_steps, images: steps and images of one pass.
    """
    backbone = classifier.backbone
    frozen_layers = freezing.resolve_freeze(backbone, regime.frozen)
    freezing.freeze(backbone, frozen_layers)
    # Replicas can exchange their statistics only where XLA does not compile the model.
    has_several_replicas = runtime.strategy.num_replicas_in_sync > 1
    freezing.synchronise_batch_norm(
        backbone, regime.train_batch_norm and has_several_replicas and not runtime.jit
    )
    progress.print_regime(
        regime,
        classifier,
        frozen_layers=frozen_layers,
        images=round(regime.steps / pass_steps * images),
    )


def _make_optimizer(
    runtime: Runtime, classifier: Classifier, regime: Regime
) -> keras.optimizers.Optimizer:
    return make_optimizer(
        runtime,
        classifier,
        learning_rate=regime.learning_rate,
        momentum=regime.momentum,
        schedule=regime.schedule,
        total_steps=regime.steps,
    )


def _restore(
    classifier: Classifier,
    optimizer: keras.optimizers.Optimizer,
    checkpoint: Checkpoint,
    model_dir: pathlib.Path,
) -> list[np.ndarray]:
    """Restores model and optimizer; returns the best weights of the regime so far."""
    checkpoints.restore_variables(classifier.model.variables, checkpoint.variables)
    checkpoints.restore_variables(optimizer.variables, checkpoint.optimizer)
    num_stored = len(checkpoint.best_weights)
    num_expected = len(freezing.list_unfrozen(classifier))
    # A checkpoint has no best weights until an epoch is complete.
    if num_stored not in (0, num_expected):
        raise ValueError(
            f"The checkpoint holds {num_stored} best weights and the model trains "
            f"{num_expected}: it has a format before 1, which this version cannot "
            f"read. Received: --model_dir={model_dir}; name another directory to start "
            "a new run."
        )
    return checkpoint.best_weights
