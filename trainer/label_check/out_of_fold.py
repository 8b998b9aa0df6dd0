"""Predicts each photograph with a head that was fitted without it.

The photographs of train and validation are divided into folds, near duplicates
together. For each fold, a head that is fitted on the other folds predicts its
photographs. A head that is fitted on train and validation predicts those of test. So
nothing is fitted on the test split.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special

from pipeline.splits import shares
from pipeline.system import console
from trainer.head_search import logistic_head
from trainer.head_search.logistic_regression import solve_regression

NUM_FOLDS = 5
# The strength of the penalty is chosen on at most this many photographs.
_MAX_IMAGES_FOR_STRENGTH = 5000


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The photographs of all splits, in any order.

    features: float [N, D], pooled features of the frozen backbone.
    labels: int [N], as the data have them, right or wrong.
    groups: the group key of each photograph; near duplicates share one.
    is_test: bool [N], true for the photographs of the test split.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: Sequence[str]
    is_test: np.ndarray


def predict_out_of_fold(
    photographs: Photographs, *, num_classes: int, seed: int
) -> np.ndarray:
    """Returns the probabilities of the classes of each photograph, float64 [N, K].

    A row is NaN if the photograph cannot be checked: its head was fitted on no
    photograph with the same label.

    Args:
      num_classes: K.
      seed: decides the folds, together with the groups.

    Raises:
      ValueError: there are too few photographs to choose the penalty of a head.
    """
    labels, folds = photographs.labels, assign_folds(photographs, seed=seed)
    features = _condition(photographs.features)
    strength = _choose_strength(features, labels, folds, num_classes)
    parts = [(folds >= 0, photographs.is_test)]
    parts += [
        ((folds >= 0) & (folds != fold), folds == fold) for fold in range(NUM_FOLDS)
    ]
    probabilities = np.full((len(labels), num_classes), np.nan)
    for fitted, held_out in console.track(
        parts, total=len(parts), label="checking labels", unit="parts"
    ):
        known = np.unique(labels[fitted])
        judged = held_out & np.isin(labels, known)
        if len(known) < 2 or not judged.any():
            continue
        kernel, bias = solve_regression(
            features[fitted], labels[fitted], strength, np.ones(num_classes)
        )
        logits = features[judged] @ kernel + bias
        probabilities[judged] = special.softmax(logits, axis=1)
    return probabilities


def _condition(features: np.ndarray) -> np.ndarray:
    """Returns float64 [N, min(N, D)], on which the same heads are solved faster.

    A shift of the features changes only the bias of a head, and a rotation does not
    change its penalty. So the features are centred, and rotated into as many columns as
    there are photographs. For 800 photographs and ResNet50, solving a head then takes a
    sixth of the time.
    """
    features = features.astype(np.float64)
    features /= float(np.std(features)) or 1.0
    features -= features.mean(axis=0)
    if features.shape[0] < features.shape[1]:
        left, sizes, _ = np.linalg.svd(features, full_matrices=False)
        features = left * sizes
    return features


def assign_folds(photographs: Photographs, *, seed: int) -> np.ndarray:
    """Returns the fold of each photograph, int [N]; -1 for those of test.

    The groups of each class are divided into folds of equal numbers of groups. So each
    group of a class has another group of the class outside its fold, if the class has
    two. A group with photographs of several classes belongs to the most frequent one.
    """
    labels_of: dict[str, list[int]] = collections.defaultdict(list)
    for group, label, is_test in zip(
        photographs.groups,
        photographs.labels.tolist(),
        photographs.is_test,
        strict=True,
    ):
        if not is_test:
            labels_of[group].append(label)
    groups_of: dict[int, list[str]] = collections.defaultdict(list)
    for group, labels in labels_of.items():
        groups_of[collections.Counter(sorted(labels)).most_common(1)[0][0]].append(
            group
        )
    fold_of: dict[str, int] = {}
    for class_groups in groups_of.values():
        positions = [
            shares.find_position(group, f"label check {seed}") for group in class_groups
        ]
        folds = shares.cut(positions, [1 / NUM_FOLDS] * NUM_FOLDS)
        fold_of |= dict(zip(class_groups, folds, strict=True))
    return np.array(
        [
            -1 if is_test else fold_of[group]
            for group, is_test in zip(
                photographs.groups, photographs.is_test, strict=True
            )
        ]
    )


def _choose_strength(
    features: np.ndarray, labels: np.ndarray, folds: np.ndarray, num_classes: int
) -> float:
    """Returns the strength of the penalty, chosen on train and validation.

    Raises:
      ValueError: no fold can be held out.
    """
    chosen = np.flatnonzero(folds >= 0)
    if len(chosen) > _MAX_IMAGES_FOR_STRENGTH:
        order = np.random.default_rng(0).permutation(chosen)
        chosen = order[:_MAX_IMAGES_FOR_STRENGTH]
    features, labels, folds = features[chosen], labels[chosen], folds[chosen]
    trials = [
        (features[~out], labels[~out], features[out], labels[out])
        for out in (folds == fold for fold in range(NUM_FOLDS))
        if out.any() and len(set(labels[~out].tolist())) > 1
    ]
    if not trials:
        raise ValueError(
            "The label check needs two photographs or more of two classes in train and "
            f"validation that are not near duplicates. Received: {len(labels)} "
            "photographs."
        )
    return logistic_head.choose_strength(trials, np.ones(num_classes))
