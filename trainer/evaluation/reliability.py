"""Measures on the test split how far replies can be trusted."""

from typing import TypedDict

import numpy as np

from trainer.evaluation import metrics
from trainer.evaluation.calibration_error import (
    estimate_calibration_error,
    split_by_confidence,
)
from trainer.postprocessing.postprocessing import Postprocessing
from trainer.postprocessing.prediction_sets import smallest_count

_NUM_RESAMPLES = 1000


class Estimate(TypedDict):
    """A figure, its 95 % interval and the number of images behind it."""

    value: float
    ci95: list[float]
    count: int


class Probabilities(TypedDict):
    """How honest probabilities are.

    loss: mean cross-entropy in nats.
    brier: mean squared error over all classes (Brier, 1950), range [0, 2].
    calibration_error: mean |accuracy - confidence| over bins of equal numbers of images
      (Nguyen and O'Connor, 2015), less what chance adds; see calibration_error.py.
    """

    loss: Estimate
    brier: Estimate
    calibration_error: Estimate


class Bin(TypedDict):
    """Images of similar confidence; accuracy_ci95: the 95 % interval (Wilson)."""

    confidence: float
    accuracy: float
    accuracy_ci95: list[float]
    count: int


class Reliability(TypedDict):
    """How far the replies of a model can be trusted, measured on test.

    temperature: logits are divided by it.
    before, after: without and with the temperature.
    bins: images by confidence, with the temperature.
    coverage: the share of prediction sets that should hold the true class.
    covered: the share that does. set_size: classes in a set, mean.
    unknown_rate: the share of images of known classes that may be called unknown.
    unknown: the share that is.
    val_count: number of validation images that the replies were fitted on.
    """

    temperature: float
    before: Probabilities
    after: Probabilities
    bins: list[Bin]
    coverage: float
    covered: Estimate
    set_size: Estimate
    unknown_rate: float
    unknown: Estimate
    val_count: int


def measure_reliability(
    postprocessing: Postprocessing,
    logits: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
) -> Reliability:
    """Measures on N test images how far the replies of a model can be trusted.

    Args:
      postprocessing: makes the replies.
      logits: float32 [N, K], before the temperature.
      scores: float32 [N], unknown scores.
      labels: int [N].
    """
    probabilities = metrics.softmax(logits / postprocessing.temperature)
    in_set = probabilities >= postprocessing.min_set_probability
    rows = np.arange(len(labels))
    in_set[rows, probabilities.argmax(axis=1)] = True
    return Reliability(
        temperature=postprocessing.temperature,
        before=_measure_probabilities(metrics.softmax(logits), labels),
        after=_measure_probabilities(probabilities, labels),
        bins=_make_bins(probabilities, labels),
        coverage=postprocessing.coverage,
        covered=_estimate_share(in_set[rows, labels]),
        set_size=_estimate_mean(in_set.sum(axis=1)),
        unknown_rate=postprocessing.unknown_rate,
        unknown=_estimate_share(scores > postprocessing.unknown_threshold),
        val_count=postprocessing.val_count,
    )


def explain_full_sets(reliability: Reliability) -> str | None:
    """Returns why prediction sets hold every class, as a sentence; None if they do not.

    They do if validation is too small for the coverage; see fit_min_probability.
    """
    needed = smallest_count(reliability["coverage"])
    if reliability["val_count"] >= needed:
        return None
    return (
        f"Prediction sets hold every class: --coverage={reliability['coverage']:g} "
        f"needs {needed} validation images, and there are {reliability['val_count']}."
    )


def _measure_probabilities(
    probabilities: np.ndarray, labels: np.ndarray
) -> Probabilities:
    rows = np.arange(len(labels))
    likelihood = np.maximum(probabilities[rows, labels], np.finfo(np.float64).tiny)
    errors = probabilities.copy()
    errors[rows, labels] -= 1
    confidence = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == labels
    error = estimate_calibration_error(confidence, is_correct)
    return Probabilities(
        loss=_estimate_mean(-np.log(likelihood)),
        brier=_estimate_mean((errors**2).sum(axis=1)),
        calibration_error=Estimate(
            value=error.value, ci95=[error.low, error.high], count=len(labels)
        ),
    )


def _make_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[Bin]:
    confidence = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == labels
    bins = []
    for rows in split_by_confidence(confidence):
        share = _estimate_share(is_correct[rows])
        bins.append(
            Bin(
                confidence=float(confidence[rows].mean()),
                accuracy=share["value"],
                accuracy_ci95=share["ci95"],
                count=len(rows),
            )
        )
    return bins


def _estimate_share(is_true: np.ndarray) -> Estimate:
    count = int(is_true.sum())
    return Estimate(
        value=count / len(is_true),
        ci95=list(metrics.confidence_interval(count, len(is_true))),
        count=len(is_true),
    )


def _estimate_mean(values: np.ndarray) -> Estimate:
    """Returns the mean of all images, with a bootstrap interval (percentiles).

    values: float or int [N].
    """
    from scipy import stats

    value, count = float(values.mean()), len(values)
    if count == 1:
        return Estimate(value=value, ci95=[value, value], count=count)
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_NUM_RESAMPLES,
        method="percentile",
        rng=0,
    ).confidence_interval
    return Estimate(
        value=value, ci95=[float(interval.low), float(interval.high)], count=count
    )
