import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from trainer.comparison.figures import (
    Estimate,
    _macro_f1,
    accuracy_difference,
    average,
    bootstrap,
    difference_figures,
    photograph_losses,
    run_figures,
)
from trainer.evaluation.metrics import confidence_interval

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
    f1 = _macro_f1(run)(rows)
    for index, row in enumerate(rows):
        labels, predicted = run.labels[row], run.predicted[row]
        occurring = np.unique(labels)
        assert f1[index] == pytest.approx(
            metrics.f1_score(labels, predicted, labels=occurring, average="macro")
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
    for name, largest in (("accuracy", 0.07), ("balanced accuracy", 0.12)):
        low, high = differences[name].interval
        assert low == pytest.approx(-high)
        assert 0.05 < high < largest
    for name in ("macro F1", "log loss"):
        assert (differences[name].value, differences[name].interval) == (0, None)


def test_an_average_has_the_summed_squares_of_its_parts():
    # By hand: the distances are 0.3 and 0.4 below, 0.06 and 0.08 above.
    averaged = average([Estimate(0.9, (0.6, 0.96)), Estimate(0.7, (0.3, 0.78))])
    assert averaged.value == pytest.approx(0.8)
    assert averaged.interval == pytest.approx((0.8 - 0.25, 0.8 + 0.05))


def test_the_interval_of_the_balanced_accuracy_covers_95_of_100_samples():
    rng = np.random.default_rng(0)
    accuracies, counts = np.array([0.95, 0.8, 0.6, 0.9]), np.array([6, 10, 20, 40])
    covered = 0
    for rights in rng.binomial(counts, accuracies, (400, 4)):
        of_classes = [
            Estimate(right / n, confidence_interval(int(right), int(n)))
            for right, n in zip(rights, counts, strict=True)
        ]
        low, high = average(of_classes).interval
        covered += low <= accuracies.mean() <= high
    assert 0.93 * 400 <= covered <= 0.99 * 400


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
