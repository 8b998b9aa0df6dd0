"""Decides what follows from the number of training images of each class."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.splits import splits_csv
from trainer.config.train_config import TrainConfig

# With this many times as many images in the largest class as in the smallest, accuracy
# mostly tells how well the large classes are known.
IMBALANCE = 2.0


@dataclasses.dataclass(frozen=True)
class ClassBalance:
    """What the numbers of images decide.

    imbalance: images of the largest class per image of the smallest, in training.
    weights: weight of each class in the loss; their mean over the training images is
      1. Empty if all images have the same weight.
    chosen_by: "accuracy" or "balanced_accuracy": the figure on validation that chooses
      the best epoch and regime.
    """

    imbalance: float = 1.0
    weights: tuple[float, ...] = ()
    chosen_by: str = "accuracy"


def make_balance(class_weights: str, counts: Sequence[int]) -> ClassBalance:
    """Decides from the numbers of training images.

    Args:
      class_weights: value of --class_weights.
      counts: number of training images of each class; all are positive.
    """
    imbalance = max(counts) / min(counts)
    is_imbalanced = imbalance >= IMBALANCE
    weights: tuple[float, ...] = ()
    if class_weights == "balanced" or (class_weights == "auto" and is_imbalanced):
        mean_count = sum(counts) / len(counts)
        weights = tuple(mean_count / count for count in counts)
    return ClassBalance(
        imbalance=imbalance,
        weights=weights,
        chosen_by="balanced_accuracy" if is_imbalanced else "accuracy",
    )


def read_balance(config: TrainConfig, classes: Sequence[str]) -> ClassBalance:
    """Decides from the numbers of images in the prepared data of a run.

    classes: names, in the order of the labels.
    """
    counts = splits_csv.count_images(config.data_dir, "train")
    return make_balance(config.class_weights, [counts[name] for name in classes])


def rank(figures: Mapping[str, Any], chosen_by: str) -> tuple[float, float]:
    """Returns the key that orders weights: the figure that chooses, then the loss.

    Args:
      figures: val_accuracy, val_balanced_accuracy and val_loss. The second may be
        missing in a line of metrics.jsonl that an earlier version wrote; it is then
        taken for equal to the first.
      chosen_by: see ClassBalance.
    """
    value = figures.get(f"val_{chosen_by}", figures["val_accuracy"])
    return value, -figures["val_loss"]
