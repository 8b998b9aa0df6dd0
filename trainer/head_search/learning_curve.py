"""Solves heads on more and more photographs, to see if more of them would help.

The photographs of training and validation are cut into folds, near duplicates together.
Each fold is held out once: heads are solved on nested parts of the other folds and
classify it. So each number of photographs is judged by the same held-out photographs.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.system import console
from trainer.evaluation.learning_curve import (
    LearningCurve,
    make_empty_curve,
    make_learning_curve,
)
from trainer.head_search.logistic_regression import solve_regression
from trainer.head_search.pooled_features import PooledSplit

NUM_FOLDS = 10

# Of as many photographs as the training split has, if the other folds have so many.
_SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
# With a tenth of the photographs each class then has one.
_MIN_IMAGES_PER_CLASS = 10
# From this number of photographs on, a few folds hold out enough of them.
_MANY_IMAGES = 5000
_FEW_FOLDS = 2
_TOLERANCE = 1e-3


def measure_learning_curve(
    train: PooledSplit,
    validation: PooledSplit,
    *,
    folds: np.ndarray,
    strength: float,
    class_weights: np.ndarray,
) -> LearningCurve:
    """Measures the accuracy of heads by the number of their training photographs.

    Args:
      train, validation: with plain features; the augmented views are not used.
      folds: int [N], of all images of train and then of validation, 0 to NUM_FOLDS - 1.
      strength: that of the head of this run.
      class_weights: float64 [K], the weight of each class.
    """
    fewest = int(np.bincount(train.labels, minlength=len(class_weights)).min())
    if fewest < _MIN_IMAGES_PER_CLASS:
        return make_empty_curve(
            f"No learning curve: it needs {_MIN_IMAGES_PER_CLASS} training photographs "
            f"of each class, and the smallest class has {fewest}."
        )
    assert train.plain is not None
    assert validation.plain is not None
    features = np.concatenate([train.plain, validation.plain])
    features = features / (float(np.std(train.plain.astype(np.float64))) or 1.0)
    labels = np.concatenate([train.labels, validation.labels])
    num_folds = _FEW_FOLDS if len(labels) > _MANY_IMAGES else NUM_FOLDS
    held_out = [np.flatnonzero(folds == fold) for fold in range(num_folds)]
    full = min(len(train.labels), len(labels) - max(map(len, held_out)))
    numbers = [round(share * full) for share in _SHARES]
    is_correct = [
        _classify_fold(
            (features, labels),
            out,
            numbers,
            strength=strength,
            class_weights=class_weights,
        )
        for out in console.track(
            held_out, total=num_folds, label="learning curve", unit="folds"
        )
    ]
    return make_learning_curve(
        numbers,
        np.concatenate(is_correct, axis=1),
        np.repeat(range(num_folds), [len(out) for out in held_out]),
    )


def _classify_fold(
    images: tuple[np.ndarray, np.ndarray],
    held_out: np.ndarray,
    numbers: Sequence[int],
    *,
    strength: float,
    class_weights: np.ndarray,
) -> np.ndarray:
    """Returns which held-out images each head classifies correctly, bool [P, M].

    images: features and labels of all images.
    held_out: positions, int [M].
    numbers: how many of the other images each of the P heads is solved on.
    """
    features, labels = images
    ordered = _order_evenly(np.setdiff1d(np.arange(len(labels)), held_out), labels)
    is_correct = []
    for number in numbers:
        drawn = ordered[:number]
        kernel, bias = solve_regression(
            features[drawn],
            labels[drawn],
            strength,
            class_weights,
            tolerance=_TOLERANCE,
        )
        predicted = (features[held_out] @ kernel + bias).argmax(axis=1)
        is_correct.append(predicted == labels[held_out])
    return np.array(is_correct)


def _order_evenly(positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns positions in a random order whose every beginning has all classes alike.

    That is, each class has about the same share of its images in it.
    """
    shuffled = np.random.default_rng(len(positions)).permutation(positions)
    # The share of its class that comes before an image, in (0, 1).
    shares = np.empty(len(shuffled))
    for label in np.unique(labels[shuffled]):
        rows = np.flatnonzero(labels[shuffled] == label)
        shares[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return shuffled[np.argsort(shares, kind="stable")]
