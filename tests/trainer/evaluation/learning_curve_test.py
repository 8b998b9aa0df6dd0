import numpy as np
import pytest

from trainer.evaluation import metrics
from trainer.evaluation.learning_curve import make_learning_curve
from trainer.evaluation.power_law import PowerLaw, predict_error

NUMBERS = [80, 160, 320, 560, 800]
LAW = PowerLaw(asymptote=0.05, factor=2.0, exponent=0.5)


def _draw(seed, count=1000):
    """Photographs of different difficulty, right where the head is good enough."""
    difficulty = np.random.default_rng(seed).random(count)
    limits = [predict_error(LAW, number) for number in NUMBERS]
    return np.array([difficulty > limit for limit in limits]), np.arange(count) % 10


def test_the_gain_of_a_known_power_law_is_predicted():
    curve = make_learning_curve(NUMBERS, *_draw(0))
    prediction = curve["prediction"]
    assert prediction is not None
    gain = predict_error(LAW, 800) - predict_error(LAW, 1600)
    low, high = prediction["gain_ci95"]
    assert low < gain < high < 0.05
    assert prediction["gain"] == pytest.approx(gain, abs=0.01)
    low, high = prediction["accuracy_ci95"]
    assert low < 1 - predict_error(LAW, 1600) < high
    assert prediction["photographs"] == 1600
    before = prediction["accuracy"] - prediction["gain"]
    assert curve["sentence"].startswith(
        "Twice as many photographs (800 to 1,600): the accuracy of the solved head "
        f"goes from about {before:.1%} to about {prediction['accuracy']:.1%}, a gain of"
    )
    assert curve["sentence"].endswith("1,000 held-out photographs).")


def test_points_have_the_accuracy_of_each_draw():
    is_correct, draws = _draw(1)
    curve = make_learning_curve(NUMBERS, is_correct, draws)
    assert [point["photographs"] for point in curve["points"]] == NUMBERS
    for point, row in zip(curve["points"], is_correct, strict=True):
        assert point["accuracy"] == row.mean()
        assert point["ci95"] == list(metrics.confidence_interval(row.sum(), 1000))
        assert point["draws"] == [row[draws == draw].mean() for draw in range(10)]


def test_a_flat_curve_predicts_nothing():
    is_correct = np.tile(np.arange(50) % 5 > 0, (5, 1))
    curve = make_learning_curve(NUMBERS, is_correct, np.arange(50) % 10)
    assert curve["power_law"] is None
    assert curve["prediction"] is None
    assert curve["sentence"] == (
        "Accuracy does not grow from 80 to 800 photographs (80.0% of 50 held-out "
        "photographs), so the curve does not show whether more of them would help."
    )
