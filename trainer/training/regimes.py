"""run_regimes(): trains one regime after the other, and continues where a run ended."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from trainer.config.regimes import Regime, rank
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.runtime import Runtime
from trainer.features.plan import (
    cache_from_config,
    load_prefix_features,
    plan_inputs,
    read_records,
)
from trainer.models import freezing
from trainer.models.classifier import Classifier
from trainer.training import checkpoints, progress, run_dir
from trainer.training.checkpoints import Checkpoint, Position
from trainer.training.epoch import (
    RegimeRun,
    run_regime,
)
from trainer.training.optimizer import make_optimizer


def train_regimes(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
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
      preemption.Stopped: asked to; a checkpoint is written.
    """
    cache = cache_from_config(config, model_dir)
    with preemption.defer(runtime.stop_signal):
        train_records, val_records = (
            read_records(runtime, config, cache, split)
            for split in ("train", "validation")
        )
    shared = RegimeRun(
        runtime=runtime,
        config=config,
        model_dir=model_dir,
        classifier=classifier,
        train_records=train_records,
        val_records=val_records,
    )
    plan = plan_inputs(classifier, rows)
    position = checkpoint.position if checkpoint is not None else Position()
    if runtime.is_chief:
        run_dir.write_metrics(model_dir, position)
    best: Sequence[np.ndarray] = ()
    for index, regime in enumerate(rows):
        if index < position.regime:
            continue
        frozen_layers = freezing.resolve_freeze(classifier.backbone, regime.frozen)
        freezing.freeze(classifier.backbone, frozen_layers)
        progress.print_regime(regime, classifier, frozen_layers=frozen_layers)
        optimizer = make_optimizer(
            runtime,
            classifier,
            learning_rate=regime.learning_rate,
            momentum=regime.momentum,
            schedule=regime.schedule,
            total_steps=shared.epoch_steps * regime.epochs,
        )
        with runtime.strategy.scope():
            if checkpoint is not None and checkpoint.position.regime == index:
                checkpoints.restore_variables(
                    classifier.model.variables, checkpoint.variables
                )
                checkpoints.restore_variables(optimizer.variables, checkpoint.optimizer)
                best = checkpoint.best
                # Empty until an epoch is complete.
                if best and len(best) != len(freezing.list_unfrozen(classifier)):
                    raise ValueError(
                        "The checkpoint was written by another version of this "
                        f"program, which has to finish it. Received: {model_dir}"
                    )
            elif index > 0:
                # The weights it starts from are its first candidate, so that a regime
                # which gains nothing loses nothing either.
                best = checkpoints.capture(freezing.list_unfrozen(classifier))
                position = dataclasses.replace(
                    position,
                    regime=index,
                    epoch=0,
                    best=max(rank(line) for line in position.history),
                )
        # Stopped comes where all workers agree and the variables are the position's.
        with preemption.defer(runtime.stop_signal):
            if position.epoch < regime.epochs:
                load_prefix_features(
                    runtime,
                    config,
                    cache,
                    classifier,
                    plan[index:],
                    train_records=shared.train_records,
                    val_records=shared.val_records,
                )
            stage = plan[index]
            ready = dataclasses.replace(
                shared,
                train_records=stage.train_records or shared.train_records,
                val_records=stage.val_records or shared.val_records,
                frozen_prefix=stage.frozen_prefix,
                train_precomputed=stage.train_records is not None,
                val_precomputed=stage.val_records is not None,
            )
            position, best = run_regime(ready, regime, optimizer, position, best)
        with runtime.strategy.scope():
            checkpoints.restore_variables(freezing.list_unfrozen(classifier), best)
        if runtime.is_chief:
            run_dir.save_best_weights(classifier, model_dir, regime.name)
        collectives.barrier(runtime)
    return position
