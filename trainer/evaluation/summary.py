"""Defines the content of summary.json: the results of a finished run."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from trainer.evaluation.confidence_curve import ConfidencePoint
from trainer.evaluation.learning_curve import LearningCurve
from trainer.evaluation.metrics import Metrics
from trainer.evaluation.reliability import Reliability
from trainer.evaluation.slices import Slice


class RegimeSummary(TypedDict):
    """The results of one regime with its best weights, evaluated in float32.

    val_..., test_...: accuracy, loss (nats), number of examples, the 95 % interval of
      the accuracy, balanced accuracy and macro F1 with their intervals, on the
      validation and the test split.
    epochs: number of epochs.
    best_epoch: the epoch of the best weights; 0 if no epoch beat the starting weights;
      with --finetune_result=average the last one, also of averaged weights.
    seconds: time of training and validation.
    """

    val_accuracy: float
    val_loss: float
    val_count: int
    val_ci95: list[float]
    val_balanced_accuracy: float
    val_balanced_accuracy_ci95: list[float]
    val_macro_f1: float
    val_macro_f1_ci95: list[float]
    test_accuracy: float
    test_loss: float
    test_count: int
    test_ci95: list[float]
    test_balanced_accuracy: float
    test_balanced_accuracy_ci95: list[float]
    test_macro_f1: float
    test_macro_f1_ci95: list[float]
    epochs: int
    best_epoch: int
    seconds: float


class Summary(TypedDict):
    """The content of summary.json.

    In addition, each name in `regimes` is a key, and its value is a RegimeSummary; see
    regime_summary().

    classes: names in the order of the labels.
    regimes: names in the order of the training.
    best_regime: the regime whose weights are best on validation; they are exported.
    chosen_by: the figure on validation that chose the best epoch and regime:
      "accuracy" or "balanced_accuracy".
    class_weights: weight of each class in the loss, in the order of the labels; empty
      if all images had the same weight.
    test: all metrics of the best regime on the test split, of calibrated probabilities.
    reliability: how far its replies can be trusted.
    slices: where it fails on the test split, the most certain first.
    confidence_curve: its accuracy on the test images that it is surest of.
    learning_curve: whether more photographs would help.
    search: the result of the head search; None without one.
    export: directory of the newest export; None before the first.
    config: the fields of TrainConfig.
    """

    classes: list[str]
    regimes: list[str]
    best_regime: str
    chosen_by: str
    class_weights: list[float]
    test: Metrics
    reliability: Reliability
    slices: list[Slice]
    confidence_curve: list[ConfidencePoint]
    learning_curve: LearningCurve
    search: dict[str, Any] | None
    export: str | None
    config: dict[str, Any]


def make_summary(
    *,
    classes: list[str],
    regimes: Mapping[str, RegimeSummary],
    best_regime: str,
    chosen_by: str,
    class_weights: list[float],
    test: Metrics,
    reliability: Reliability,
    slices: list[Slice],
    confidence_curve: list[ConfidencePoint],
    learning_curve: LearningCurve,
    search: dict[str, Any] | None,
    config: dict[str, Any],
) -> Summary:
    """Builds the summary of a run that is not exported yet."""
    summary = {
        "classes": classes,
        "regimes": list(regimes),
        **regimes,
        "best_regime": best_regime,
        "chosen_by": chosen_by,
        "class_weights": class_weights,
        "test": test,
        "reliability": reliability,
        "slices": slices,
        "confidence_curve": confidence_curve,
        "learning_curve": learning_curve,
        "search": search,
        "export": None,
        "config": config,
    }
    return cast(Summary, summary)


def regime_summary(summary: Summary, name: str) -> RegimeSummary:
    """Returns the results of one regime."""
    return cast(Mapping[str, RegimeSummary], summary)[name]
