"""Evaluates weights on the validation split while a regime trains."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from trainer.config.class_balance import rank
from trainer.evaluation import evaluate, metrics
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.models import freezing
from trainer.training import checkpoints
from trainer.training.position import Position
from trainer.training.regime_run import RegimeRun


def validate_epoch(
    run: RegimeRun, eval_step: Callable, position: Position
) -> EpochMetrics:
    """Evaluates the current weights and returns the figures of their epoch."""
    start = time.monotonic()
    figures = metrics.compute_figures(*validate(run, eval_step))
    count = run.count_images(position.step)
    line = EpochMetrics(
        regime=run.regime.name,
        epoch=position.epoch + 1,
        step=position.total_steps,
        train_loss=position.loss_sum / count,
        train_accuracy=position.correct_sum / count,
        val_loss=figures["loss"],
        val_accuracy=figures["accuracy"],
        val_balanced_accuracy=figures["balanced_accuracy"],
        val_macro_f1=figures["macro_f1"],
        learning_rate=float(run.optimizer.learning_rate),
        images_per_second=count / position.seconds,
        input_wait=None
        if math.isnan(position.waited_seconds)
        else position.waited_seconds / position.seconds,
        seconds=position.seconds,
        val_seconds=time.monotonic() - start,
        best=False,
    )
    chosen_by = run.balance.chosen_by
    ranks = [rank(before, chosen_by) for before in position.history]
    line["best"] = all(rank(line, chosen_by) > before for before in ranks)
    return line


def find_errors(
    run: RegimeRun, candidates: Sequence[Sequence[np.ndarray]]
) -> np.ndarray:
    """Returns which validation images each candidate gets wrong.

    Args:
      candidates: values of the weights that the regime trains. Afterwards the model has
        those of the last candidate.

    Returns:
      float64 [candidates, N]: 0 for a correct prediction. A wrong one is 1 or, if
      balanced accuracy chooses, the weight of the image by weigh_classes_equally().
    """
    eval_step = make_eval_step(run)
    errors = []
    for weights in candidates:
        with run.runtime.strategy.scope():
            unfrozen = freezing.list_unfrozen(run.classifier)
            checkpoints.restore_variables(unfrozen, weights)
        logits, labels = validate(run, eval_step)
        errors.append(logits.argmax(axis=1) != labels)
    wrong = np.stack(errors).astype(np.float64)
    if run.balance.chosen_by == "accuracy":
        return wrong
    return wrong * weigh_classes_equally(labels)


def weigh_classes_equally(labels: np.ndarray) -> np.ndarray:
    """Returns a weight for each image, float64 [N], with mean 1.

    The weighted fraction of correct images is then the balanced accuracy.

    labels: int [N].
    """
    classes, inverse, counts = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    weights: np.ndarray = len(labels) / len(classes) / counts[inverse]
    return weights


def find_clearly_better(errors: np.ndarray) -> int:
    """Returns the row with the fewest errors, or 0 if row 0 is not clearly worse.

    Row 0 is clearly worse if the mean of the differences, image by image, is more than
    two of its standard errors.

    errors: float64 [candidates, N]; see find_errors.
    """
    best = int(errors.mean(axis=1).argmin())
    differences = errors[0] - errors[best]
    standard_error = differences.std() / np.sqrt(len(differences))
    return best if differences.mean() > 2 * standard_error else 0


def make_eval_step(run: RegimeRun) -> Callable:
    """Makes the step that classifies a validation batch."""
    return evaluate.make_eval_step(
        run.runtime,
        run.classifier,
        None if run.inputs.val_features is None else run.inputs.frozen_prefix,
    )


def validate(run: RegimeRun, eval_step: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits, float32 [N, K], and the labels, int32 [N], of validation.

    Raises:
      preemption.Stopped: see evaluate.evaluate.
    """
    logits, labels = evaluate.evaluate(
        run.runtime,
        eval_step,
        run.val_records,
        image_size=run.config.image_size,
        batch_size=run.config.batch_size,
    )
    return logits, labels
