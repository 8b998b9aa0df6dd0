import numpy as np
import pytest
from scipy import stats

from trainer.evaluation import calibration_error
from trainer.evaluation.calibration_error import estimate_calibration_error


def _draw(seed, count, *, too_sure=0.0):
    """Confidences, and whether answers are right that are so much less often right."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, count)
    return confidence, rng.random(count) < confidence - too_sure


def _measure_in_bins(confidence, is_correct):
    rows = calibration_error.split_by_confidence(confidence)
    gaps = [abs(is_correct[r].mean() - confidence[r].mean()) * len(r) for r in rows]
    return sum(gaps) / len(confidence)


@pytest.mark.parametrize("count", [1, 2, 9, 30, 105, 400])
@pytest.mark.parametrize("too_sure", [0.0, 0.2])
def test_the_estimate_lies_within_its_interval(count, too_sure):
    for seed in range(3):
        error = estimate_calibration_error(*_draw(seed, count, too_sure=too_sure))
        assert 0 <= error.low <= error.value <= error.high <= 1


def test_what_chance_adds_is_taken_off():
    draws = [_draw(seed, 100) for seed in range(12)]
    errors = [estimate_calibration_error(*draw) for draw in draws]
    assert np.mean([_measure_in_bins(*draw) for draw in draws]) > 0.08
    assert np.median([error.value for error in errors]) < 0.05
    # One of the 12 has more than 0 for low with a probability of a quarter, and
    # four with one of 0.0003.
    assert sum(error.low > 0 for error in errors) < 4


def test_with_many_images_the_estimate_is_the_error():
    confidence, is_correct = _draw(0, 20_000, too_sure=0.1)
    error = estimate_calibration_error(confidence, is_correct)
    assert error.value == pytest.approx(0.1, abs=0.01)
    assert error.high - error.low < 0.03
    assert error.value == pytest.approx(
        _measure_in_bins(confidence, is_correct), abs=0.002
    )


@pytest.mark.parametrize("too_sure", [0.0, 0.05, 0.2])
def test_the_interval_covers_the_error(too_sure, monkeypatch):
    monkeypatch.setattr(calibration_error, "_NUM_SIMULATIONS", 200)
    covered = 0
    for seed in range(40):
        error = estimate_calibration_error(*_draw(seed, 100, too_sure=too_sure))
        covered += error.low <= too_sure <= error.high
    # An interval that covers 95 % has fewer for at most 0.0001 of all seeds.
    assert stats.binomtest(covered, 40, 0.95, "less").pvalue > 1e-4


def test_all_answers_right_and_sure_leave_room_for_an_error():
    error = estimate_calibration_error(np.ones(30), np.ones(30, bool))
    assert error[:2] == (0, 0)
    # The accuracy of which 30 right answers have a probability of 2.5 %.
    assert error.high == pytest.approx(1 - 0.025 ** (1 / 30), abs=0.01)


def test_equal_confidences_are_one_value():
    error = estimate_calibration_error(np.full(200, 0.25), np.arange(200) % 4 == 0)
    assert error.value < 0.03
    assert error.low == 0


def test_bins_are_of_equal_size():
    sizes = [len(r) for r in calibration_error.split_by_confidence(np.arange(105.0))]
    assert sizes == [11] * 5 + [10] * 5
    assert len(calibration_error.split_by_confidence(np.arange(30.0))) == 3
