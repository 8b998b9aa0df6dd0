"""Tests that the heads of a learning curve never see what they are judged on."""

import numpy as np
import pytest

from trainer.head_search.learning_curve import measure_learning_curve
from trainer.head_search.logistic_regression import solve_regression
from trainer.head_search.pooled_features import PooledSplit

NUM_CLASSES = 3


def _split(features, labels):
    return PooledSplit(plain=features.astype("f4"), views=(), labels=labels)


def _measure(features, labels, folds, *, num_train, strength=0.1):
    return measure_learning_curve(
        _split(features[:num_train], labels[:num_train]),
        _split(features[num_train:], labels[num_train:]),
        folds=folds,
        strength=strength,
        class_weights=np.ones(NUM_CLASSES),
    )


def _draw(rng, count, *, dimensions=20, distance=2.0):
    labels = rng.integers(0, NUM_CLASSES, count)
    centres = distance * np.eye(NUM_CLASSES, dimensions)
    return centres[labels] + rng.normal(size=(count, dimensions)), labels


def test_more_photographs_help_as_the_curve_says():
    rng = np.random.default_rng(0)
    features, labels = _draw(rng, 200)
    curve = _measure(features, labels, np.arange(200) % 10, num_train=180)
    assert [point["photographs"] for point in curve["points"]] == [
        *(18, 36, 72, 126, 180)
    ]
    assert {point["count"] for point in curve["points"]} == {200}
    assert {len(point["draws"]) for point in curve["points"]} == {10}
    accuracies = [point["accuracy"] for point in curve["points"]]
    assert accuracies[0] + 0.05 < accuracies[-1]
    prediction = curve["prediction"]
    assert prediction is not None
    # The truth, by as many new photographs.
    more, test = _draw(rng, 360), _draw(rng, 2000)
    kernel, bias = solve_regression(*more, 0.1, np.ones(NUM_CLASSES), tolerance=1e-4)
    truth = ((test[0] @ kernel + bias).argmax(axis=1) == test[1]).mean()
    low, high = prediction["accuracy_ci95"]
    assert low - 0.01 < truth < high + 0.01


def test_near_duplicates_of_one_fold_teach_nothing():
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.integers(0, NUM_CLASSES, 75), 2)
    features = np.repeat(rng.normal(size=(75, 150)), 2, axis=0)  # pairs of copies
    folds = np.repeat(np.arange(75) % 10, 2)
    curve = _measure(features, labels, folds, num_train=140)
    for point in curve["points"]:
        assert point["accuracy"] == pytest.approx(1 / NUM_CLASSES, abs=0.15)
    apart = _measure(features, labels, np.arange(150) % 10, num_train=140)
    assert apart["points"][-1]["accuracy"] > 0.9


def test_the_smallest_number_has_each_class():
    labels = np.repeat([0, 1, 2], [200, 60, 12])
    features = np.eye(NUM_CLASSES)[labels]
    folds = np.arange(272) % 10
    curve = _measure(features, labels, folds, num_train=272, strength=100.0)
    assert curve["points"][0]["photographs"] == 24
    assert curve["points"][0]["accuracy"] == 1.0
    assert "does not grow" in curve["sentence"]


def test_a_small_class_is_a_reason_for_no_curve():
    labels = np.repeat([0, 1, 2], [20, 20, 9])
    curve = _measure(np.eye(NUM_CLASSES)[labels], labels, labels, num_train=49)
    assert curve["points"] == []
    assert curve["sentence"] == (
        "No learning curve: it needs 10 training photographs of each class, and the "
        "smallest class has 9."
    )


def test_a_fold_may_hold_a_whole_class():
    labels = np.repeat([0, 1, 2], [15, 15, 15])
    features = np.eye(NUM_CLASSES)[labels]
    folds = np.where(labels == 2, 3, np.arange(45) % 3)
    curve = _measure(features, labels, folds, num_train=45)
    assert curve["points"][-1]["draws"] == [1, 1, 1, 0]


def test_one_class_always_wins_where_there_is_no_other():
    features = np.random.default_rng(2).normal(size=(8, 4))
    kernel, bias = solve_regression(
        features, np.full(8, 2), 1.0, np.ones(3), tolerance=1e-4
    )
    assert (features @ kernel + bias).argmax(axis=1).tolist() == [2] * 8
