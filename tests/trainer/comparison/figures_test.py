import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from trainer.comparison.figures import (
    _statistics,
    accuracy_difference,
    bootstrap,
    difference_figures,
    photograph_losses,
    run_figures,
)

CLASSES = ("daisy", "rose", "tulip")


@pytest.fixture
def pair(make_pair):
    """Two runs on 60 photographs: 40 right in A, 50 right in B."""
    rng = np.random.default_rng(3)
    answers = []
    for index, label in enumerate(rng.choice(CLASSES, 60)):
        wrong = CLASSES[(CLASSES.index(label) + 1) % 3]
        answers.append(
            (label, label if index < 40 else wrong, label if index >= 10 else wrong)
        )
    return make_pair(answers)


def test_the_figures_are_those_of_scikit_learn(pair):
    for run, right in zip(pair, (40, 50), strict=True):
        figures = run_figures(run)
        assert figures["accuracy"].value == pytest.approx(right / 60)
        wilson = stats.binomtest(right, 60).proportion_ci(method="wilson")
        assert figures["accuracy"].interval == pytest.approx((wilson.low, wilson.high))
        expected = {
            "balanced accuracy": metrics.balanced_accuracy_score(
                run.labels, run.predicted
            ),
            "macro F1": metrics.f1_score(run.labels, run.predicted, average="macro"),
            "log loss": metrics.log_loss(run.labels, run.probabilities),
        }
        for name, value in expected.items():
            assert figures[name].value == pytest.approx(value)
            low, high = figures[name].interval
            assert low < value < high


def test_each_resample_has_the_figures_of_scikit_learn(pair):
    run = pair[0]
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 60, (4, 60))
    # A resample without the third class.
    rows[3] = rng.choice(np.flatnonzero(run.labels != 2), 60)
    statistics = _statistics(run)
    balanced = statistics["balanced accuracy"](rows)
    f1 = statistics["macro F1"](rows)
    for index, row in enumerate(rows):
        labels, predicted = run.labels[row], run.predicted[row]
        occurring = np.unique(labels)
        assert balanced[index] == pytest.approx(
            metrics.recall_score(labels, predicted, labels=occurring, average="macro")
        )
        assert f1[index] == pytest.approx(
            metrics.f1_score(labels, predicted, labels=occurring, average="macro")
        )
        assert statistics["log loss"](rows)[index] == pytest.approx(
            metrics.log_loss(labels, run.probabilities[row], labels=[0, 1, 2])
        )


def test_differences_pair_the_photographs(pair):
    differences = difference_figures(*pair)
    of_first, of_second = (run_figures(run) for run in pair)
    for name, difference in differences.items():
        gained = of_second[name].value - of_first[name].value
        assert difference.value == pytest.approx(gained)
        low, high = difference.interval
        assert low < gained < high
    # 20 photographs are mended and 10 broken.
    assert differences["accuracy"].value == pytest.approx(10 / 60)


def test_equal_runs_have_no_bootstrap_interval_but_one_of_the_accuracy(pair):
    differences = difference_figures(pair[0], dataclasses.replace(pair[0], letter="B"))
    low, high = differences["accuracy"].interval
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.07
    for name in ("balanced accuracy", "macro F1", "log loss"):
        assert (differences[name].value, differences[name].interval) == (0, None)


@pytest.mark.parametrize("count", [200, 5001])
def test_the_bootstrap_interval_of_a_mean_is_the_normal_one(count):
    values = np.random.default_rng(1).normal(5, 2, count)
    estimate = bootstrap(lambda rows: values[rows].mean(axis=-1), count)
    assert estimate.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / count**0.5
    expected = (values.mean() - half, values.mean() + half)
    assert estimate.interval == pytest.approx(expected, abs=0.1 * half)


def test_the_paired_interval_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(0)
    first = rng.random(200) < 0.8
    second = np.where(rng.random(200) < 0.05, ~first, first)
    low, high = accuracy_difference(first, second).interval
    unpaired = 1.96 * np.sqrt(2 * 0.8 * 0.2 / 200)
    assert (high - low) / 2 < 0.6 * unpaired


def test_a_probability_of_zero_has_a_finite_loss(pair):
    sure = np.eye(3)[pair[0].predicted]
    losses = photograph_losses(dataclasses.replace(pair[0], probabilities=sure))
    assert losses[0] == 0
    assert losses[-1] == pytest.approx(-np.log(np.finfo(float).eps))
