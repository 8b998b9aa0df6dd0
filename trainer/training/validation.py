"""Evaluates weights on the validation split while a regime trains."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from trainer.config.regimes import rank
from trainer.evaluation import evaluate, metrics
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.models import freezing
from trainer.training import checkpoints
from trainer.training.position import Position
from trainer.training.regime_run import RegimeRun

# What an accuracy and a loss are compared with before the first validation.
_NO_RANK = (-1.0, 0.0)


def validate_epoch(
    run: RegimeRun, eval_step: Callable, position: Position
) -> EpochMetrics:
    """Evaluates the current weights and returns the figures of their epoch."""
    start = time.monotonic()
    val_accuracy, val_loss = metrics.accuracy_and_loss(*_evaluate(run, eval_step))
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


def find_errors(
    run: RegimeRun, candidates: Sequence[Sequence[np.ndarray]]
) -> np.ndarray:
    """Returns which validation images each candidate gets wrong: bool [candidates, N].

    Args:
      candidates: values of the weights that the regime trains. Afterwards the model has
        those of the last candidate.
    """
    eval_step = make_eval_step(run)
    errors = []
    for weights in candidates:
        with run.runtime.strategy.scope():
            unfrozen = freezing.list_unfrozen(run.classifier)
            checkpoints.restore_variables(unfrozen, weights)
        logits, labels = _evaluate(run, eval_step)
        errors.append(logits.argmax(axis=1) != labels)
    return np.stack(errors)


def find_clearly_better(errors: np.ndarray) -> int:
    """Returns the row with the fewest errors, or 0 if row 0 is not clearly worse.

    It is clearly worse if the mean of the differences, image by image, is more than two
    of its standard errors.

    errors: bool [candidates, N].
    """
    best = int(errors.mean(axis=1).argmin())
    differences = errors[0].astype(float) - errors[best]
    standard_error = differences.std() / np.sqrt(len(differences))
    return best if differences.mean() > 2 * standard_error else 0


def make_eval_step(run: RegimeRun) -> Callable:
    """Makes the step that classifies a validation batch."""
    return evaluate.make_eval_step(
        run.runtime,
        run.classifier,
        None if run.inputs.val_features is None else run.inputs.frozen_prefix,
    )


def _evaluate(run: RegimeRun, eval_step: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits and the labels of the validation images."""
    logits, labels = evaluate.evaluate(
        run.runtime,
        eval_step,
        run.val_records,
        image_size=run.config.image_size,
        batch_size=run.config.batch_size,
    )
    return logits, labels
