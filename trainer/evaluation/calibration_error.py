"""Estimates the calibration error of probabilities, with an interval that holds it.

The calibration error is the mean of |share of right answers - confidence|. Measured in
bins it is too large: a perfect model with 100 images has one of about 0.1 by chance.
The bootstrap adds as much again, so that the measured error can lie outside its
interval. So the measurement is inverted: for each error that could be the true one,
measurements are simulated with the same confidences. The estimate is the error whose
measurements are as often larger as smaller than the real one; the interval has the
errors for which the real one is not among the 2.5 % smallest or largest.

docs/decisions/0060-calibration-error.md has the coverage of the interval.
"""

from typing import NamedTuple

import numpy as np

_MAX_BINS = 10
_IMAGES_PER_BIN = 10
_NUM_SIMULATIONS = 1000
# Errors that are tried, before they are limited by probabilities of 0 and 1.
_TRIED_ERRORS = np.linspace(0, 1, 61) ** 2
_TAIL = 0.025
_ROUNDING = 1e-9


class CalibrationError(NamedTuple):
    """The estimate and its 95 % interval: low <= value <= high."""

    value: float
    low: float
    high: float


class _Bins(NamedTuple):
    """Arrays [B]: numbers of images, mean confidences, shares of right answers."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        return self.counts / self.counts.sum()


def split_by_confidence(confidence: np.ndarray) -> list[np.ndarray]:
    """Returns positions of images in bins of equal size, the least confident first."""
    num_bins = min(_MAX_BINS, max(1, len(confidence) // _IMAGES_PER_BIN))
    return np.array_split(np.argsort(confidence, kind="stable"), num_bins)


def estimate_calibration_error(
    confidence: np.ndarray, is_correct: np.ndarray
) -> CalibrationError:
    """Estimates the calibration error.

    confidence: float64 [N], range [0, 1]. is_correct: bool [N].
    """
    rows = split_by_confidence(confidence)
    bins = _Bins(
        np.array([len(each) for each in rows]),
        np.array([confidence[each].mean() for each in rows]),
        np.array([is_correct[each].mean() for each in rows]),
    )
    gaps = bins.accuracy - bins.confidence
    mean_gap = float(bins.weights @ np.abs(gaps))
    # How a model is wrong decides how much chance adds. Two ways bound it: as it was
    # measured, more or less of it, and too sure everywhere alike.
    as_measured = _invert(bins, gaps / max(mean_gap, _ROUNDING))
    too_sure = _invert(bins, -np.ones(len(gaps)))
    return CalibrationError(
        as_measured.value,
        min(as_measured.low, too_sure.low),
        max(as_measured.high, too_sure.high),
    )


def _invert(bins: _Bins, direction: np.ndarray) -> CalibrationError:
    """Estimates the error of a model that is wrong in one way.

    direction: float [B], accuracy less confidence of each bin, for a mean error of 1.
    """
    tried = np.clip(
        bins.confidence + _TRIED_ERRORS[:, np.newaxis] * direction, 0.0, 1.0
    )
    errors = np.abs(tried - bins.confidence) @ bins.weights
    drawn = np.random.default_rng(0).binomial(
        bins.counts, tried, size=(_NUM_SIMULATIONS, *tried.shape)
    )
    measured = np.abs(drawn / bins.counts - bins.confidence) @ bins.weights
    # A model cannot be better than perfect: a measurement that even a perfect model
    # rarely falls below says no more than one that it falls below half of the time.
    real = max(
        float(np.abs(bins.accuracy - bins.confidence) @ bins.weights),
        float(np.median(measured[:, 0])),
    )
    not_smaller = np.maximum.accumulate((measured >= real - _ROUNDING).mean(axis=0))
    not_larger = np.minimum.accumulate((measured <= real + _ROUNDING).mean(axis=0))
    return CalibrationError(
        value=_find_first(errors, not_smaller - not_larger, 0.0),
        low=_find_first(errors, not_smaller, _TAIL),
        high=_find_first(errors, -not_larger, -_TAIL),
    )


def _find_first(errors: np.ndarray, rising: np.ndarray, level: float) -> float:
    """Returns the error at which a rising function of it reaches a level.

    errors, rising: [E]. The function is linear between the errors.
    """
    after = int(np.searchsorted(rising, level))
    if after == 0:
        return 0.0
    if after == len(errors):
        return float(errors[-1])
    part = slice(after - 1, after + 1)
    return float(np.interp(level, rising[part], errors[part]))
