"""Solves the head: logistic regression on the pooled features of the frozen backbone.

A linear head that is solved exactly, before anything is fine-tuned (Kumar et al., 2022,
"Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution"),
needs no rate and no number of epochs, so it is as good on few photographs as on many.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import cast

import numpy as np

from pipeline.system import console, files
from trainer.config.class_balance import ClassBalance
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.runtime import Runtime
from trainer.evaluation import metrics
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.head_search import learning_curve
from trainer.head_search.folds import assign_folds
from trainer.head_search.logistic_regression import solve_regression
from trainer.head_search.pooled_features import PooledSplit, extract_pooled
from trainer.models.classifier import Classifier
from trainer.training import checkpoints, run_dir
from trainer.training.progress import format_validation

# Inverse strengths of the penalty on the squared weights, for features whose standard
# deviation over all features and images is 1; see LogisticRegression of scikit-learn.
_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
# Above this number of images the validation loss chooses the strength, not folds.
_MAX_IMAGES_FOR_FOLDS = 5000
_NUM_FOLDS = 5
# Largest component of the gradient.
_TOLERANCE = 1e-6
# Features and labels, held-out features and labels.
Trial = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LogisticHead:
    """A solved head.

    kernel: float32 [D, K]. bias: float32 [K].
    strength: the inverse strength of the penalty that was chosen.
    line: its figures, as a line of metrics.jsonl with epoch 0.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    line: EpochMetrics


def start_from_logistic_head(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    num_classes: int,
    *,
    balance: ClassBalance,
) -> EpochMetrics:
    """Solves the head of a new run, or reads it if it was solved before.

    The chief solves and writes it, with its learning curve; all workers read it.

    balance: weights of the classes.

    Returns:
      The figures of the head, as the first line of metrics.jsonl.

    Raises:
      preemption.Stopped: the process was asked to stop.
    """
    path = checkpoints.checkpoints_dir(model_dir) / "logistic_head.npz"
    if not collectives.broadcast_from_chief(runtime, path.is_file()):
        with preemption.defer(runtime.stop_signal):
            train, validation = extract_pooled(
                runtime,
                config,
                model_dir,
                classifier,
                num_classes=num_classes,
                poolings=(config.pooling,),
            )
        if runtime.is_chief:
            _solve_and_save(
                config,
                path,
                train[config.pooling],
                validation[config.pooling],
                num_classes=num_classes,
                class_weights=balance.weights,
                curve_path=run_dir.learning_curve_path(model_dir),
            )
        collectives.barrier(runtime)
    head = _load(path)
    with runtime.strategy.scope():
        logits = classifier.head.get_layer("logits")
        logits.kernel.assign(head.kernel)
        logits.bias.assign(head.bias)
    line = head.line
    print(
        f"\nhead solved by logistic regression in {line['seconds']:.1f} s "
        f"(C = {head.strength:g} by held-out loss)\n"
        f"loss {line['train_loss']:.4f}, accuracy {line['train_accuracy']:.4f} | "
        f"{format_validation(line)}",
        flush=True,
    )
    return line


def _solve_and_save(
    config: TrainConfig,
    path: pathlib.Path,
    train: PooledSplit,
    validation: PooledSplit,
    *,
    num_classes: int,
    class_weights: Sequence[float],
    curve_path: pathlib.Path,
) -> None:
    """Writes a solved head and its learning curve.

    path, curve_path: of the head and of the curve.
    """
    folds = assign_folds(
        config, ("train", "validation"), num_folds=learning_curve.NUM_FOLDS
    )
    # Two folds of the learning curve are one of the head.
    of_train = folds[: len(train.labels)] * _NUM_FOLDS // learning_curve.NUM_FOLDS
    solved = solve_head(
        config.regimes[0],
        train,
        validation,
        folds=of_train,
        num_classes=num_classes,
        class_weights=class_weights,
    )
    curve = learning_curve.measure_learning_curve(
        train,
        validation,
        folds=folds,
        strength=solved.strength,
        class_weights=np.array(class_weights or np.ones(num_classes)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The head comes last: when it is there, all of this is done.
    files.write_json(curve_path, curve)
    _save(path, solved)


def solve_head(
    regime: str,
    train: PooledSplit,
    validation: PooledSplit,
    *,
    folds: np.ndarray,
    num_classes: int,
    class_weights: Sequence[float] = (),
) -> LogisticHead:
    """Solves a head on the plain features and on the augmented views of train.

    Held-out images choose the strength of the penalty: those of each fold of train, or
    of validation if the images are too many for folds, or too few.

    Args:
      regime: name of the regime whose weights the head becomes.
      train, validation: see pooled_features.extract_pooled; both with plain features.
      folds: int [N], the fold of each training image.
      class_weights: weight of each class in the loss; empty: all have the same.
    """
    start = time.monotonic()
    assert train.plain is not None
    assert validation.plain is not None
    scale = float(np.std(train.plain.astype(np.float64))) or 1.0
    of_class = np.array(class_weights or np.ones(num_classes))
    strength = _choose_strength(train, validation, scale, folds, of_class)
    views = [train.plain, *train.views]
    with console.show_elapsed("solving the head with the chosen penalty"):
        kernel, bias = solve_regression(
            np.concatenate(views) / scale,
            np.tile(train.labels, len(views)),
            strength / len(views),
            of_class,
            tolerance=_TOLERANCE,
        )
    kernel = (kernel / scale).astype(np.float32)
    bias = bias.astype(np.float32)
    train_accuracy, train_loss = metrics.accuracy_and_loss(
        train.plain @ kernel + bias, train.labels
    )
    figures = metrics.compute_figures(
        validation.plain @ kernel + bias, validation.labels
    )
    seconds = max(time.monotonic() - start, 1e-3)
    line = EpochMetrics(
        regime=regime,
        epoch=0,
        step=0,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=figures["loss"],
        val_accuracy=figures["accuracy"],
        val_balanced_accuracy=figures["balanced_accuracy"],
        val_macro_f1=figures["macro_f1"],
        learning_rate=0.0,
        images_per_second=len(train.labels) / seconds,
        input_wait=None,
        seconds=seconds,
        val_seconds=0.0,
        best=True,
    )
    return LogisticHead(kernel, bias, strength, line)


def _choose_strength(
    train: PooledSplit,
    validation: PooledSplit,
    scale: float,
    folds: np.ndarray,
    of_class: np.ndarray,
) -> float:
    """Returns the strength of the penalty, chosen on folds or on validation."""
    assert train.plain is not None
    assert validation.plain is not None
    plain, labels = train.plain / scale, train.labels
    trials = []
    if len(plain) <= _MAX_IMAGES_FOR_FOLDS:
        trials = [
            (plain[~out], labels[~out], plain[out], labels[out])
            for out in (folds == fold for fold in range(_NUM_FOLDS))
            if out.any() and len(set(labels[~out])) > 1
        ]
    if not trials:  # There are too many images for folds, or too few.
        trials = [(plain, labels, validation.plain / scale, validation.labels)]
    return choose_strength(trials, of_class)


def choose_strength(trials: Sequence[Trial], of_class: np.ndarray) -> float:
    """Returns the smallest strength whose held-out loss is near the least.

    Near is within a standard error (Breiman et al., 1984): a smaller head is preferred
    where the images cannot tell, and fine-tuning it has smaller gradients. If it takes
    long, lines show the progress.
    """
    losses: dict[float, np.ndarray] = {}
    with console.show_elapsed("choosing the penalty of the head") as set_progress:
        for strength in _STRENGTHS:
            set_progress(f"{len(losses) + 1} of at most {len(_STRENGTHS)}")
            losses[strength] = np.concatenate(
                [_held_out_losses(trial, strength, of_class) for trial in trials]
            )
            best = min(losses.values(), key=np.mean)
            limit = best.mean() + best.std() / np.sqrt(len(best))
            # The loss falls with the strength, then it rises. The largest take the
            # longest.
            if losses[strength].mean() > limit:
                break
    return min(strength for strength in losses if losses[strength].mean() <= limit)


def _held_out_losses(trial: Trial, strength: float, of_class: np.ndarray) -> np.ndarray:
    """Returns the weighted loss of each held-out image, float64 [M], in nats."""
    from scipy import special

    features, labels, held_out, held_out_labels = trial
    kernel, bias = solve_regression(features, labels, strength, of_class)
    log_probabilities = special.log_softmax(held_out @ kernel + bias, axis=1)
    rows = np.arange(len(held_out_labels))
    return -of_class[held_out_labels] * log_probabilities[rows, held_out_labels]


def _save(path: pathlib.Path, head: LogisticHead) -> None:
    """Writes a solved head, whole or not at all."""
    line = np.frombuffer(json.dumps(head.line).encode(), np.uint8)
    with files.write_aside(path) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            kernel=head.kernel,
            bias=head.bias,
            strength=head.strength,
            line=line,
        )


def _load(path: pathlib.Path) -> LogisticHead:
    """Reads what _save() wrote."""
    with np.load(path) as arrays:
        return LogisticHead(
            kernel=arrays["kernel"],
            bias=arrays["bias"],
            strength=float(arrays["strength"]),
            line=cast(EpochMetrics, json.loads(arrays["line"].tobytes())),
        )
