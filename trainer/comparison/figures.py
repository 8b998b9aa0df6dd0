"""Computes the figures of a run, and of a pair, with their intervals."""

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np

from trainer.comparison.paired_tests import difference_interval
from trainer.comparison.run_results import RunResults
from trainer.evaluation.metrics import confidence_interval

# The bias-corrected interval computes the figure once without each photograph. Above
# this number of photographs that takes minutes and changes nothing.
_MAX_CORRECTED = 5000
_RESAMPLES = 9999
_FEWER_RESAMPLES = 1999
# Photographs of all resamples that are in memory at once.
_BATCH_ROWS = 2_000_000

# Takes positions of photographs, int [..., N], and returns a figure of each resample,
# float [...].
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None if the photographs give no interval."""

    value: float
    interval: tuple[float, float] | None


def run_figures(run: RunResults) -> dict[str, Estimate]:
    """Returns the figures of one run by name; the log loss is in nats."""
    count = len(run.names)
    right = int(run.is_right.sum())
    figures = {"accuracy": Estimate(right / count, confidence_interval(right, count))}
    for name, statistic in _statistics(run).items():
        figures[name] = bootstrap(statistic, count)
    return figures


def difference_figures(first: RunResults, second: RunResults) -> dict[str, Estimate]:
    """Returns what the second run has more of each figure than the first.

    Each resample holds the same photographs for both runs.
    """
    count = len(first.names)
    figures = {"accuracy": accuracy_difference(first.is_right, second.is_right)}
    of_first, of_second = _statistics(first), _statistics(second)
    for name in of_first:

        def statistic(rows, name=name):
            return of_second[name](rows) - of_first[name](rows)

        figures[name] = bootstrap(statistic, count)
    return figures


def accuracy_difference(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Returns the difference of two accuracies on the same photographs.

    first, second: bool [N], which photographs each run gets right.
    """
    wins, losses = int((second & ~first).sum()), int((first & ~second).sum())
    return Estimate(
        (wins - losses) / len(first), difference_interval(wins, losses, len(first))
    )


def bootstrap(statistic: Statistic, count: int) -> Estimate:
    """Computes a figure and its bootstrap interval over photographs.

    The method is BCa (Efron, 1987); with very many photographs, percentiles. There is
    no interval if every resample gives the same figure.

    count: number of photographs, at least 2.
    """
    from scipy import stats

    is_small = count <= _MAX_CORRECTED
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        limits = stats.bootstrap(
            (np.arange(count),),
            lambda rows, axis: statistic(rows),
            n_resamples=_RESAMPLES if is_small else _FEWER_RESAMPLES,
            batch=max(1, _BATCH_ROWS // count),
            vectorized=True,
            method="BCa" if is_small else "percentile",
            random_state=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(limits.low), float(limits.high)
    is_interval = low < high  # False for NaN, which BCa gives for equal resamples.
    value = float(statistic(np.arange(count)))
    return Estimate(value, (low, high) if is_interval else None)


def photograph_losses(run: RunResults) -> np.ndarray:
    """Returns the log loss of each photograph, float64 [N], in nats.

    A probability of 0 counts as the smallest that scikit-learn's log_loss knows.
    """
    of_label = run.probabilities[np.arange(len(run.labels)), run.labels]
    return -np.log(np.maximum(of_label, np.finfo(float).eps))


def _statistics(run: RunResults) -> dict[str, Statistic]:
    """Returns the figures that are resampled.

    scikit-learn has them for one sample at a time; thousands would take minutes.
    """
    num_classes = len(run.classes)
    losses = photograph_losses(run)

    def count_classes(classes: np.ndarray) -> np.ndarray:
        """int [R, N] -> int [R, K]; the class K is not counted."""
        resamples = len(classes)
        offsets = np.arange(resamples)[:, None] * (num_classes + 1)
        counts = np.bincount(
            (classes + offsets).ravel(), minlength=resamples * (num_classes + 1)
        )
        return counts.reshape(resamples, -1)[:, :num_classes]

    right_class = np.where(run.is_right, run.labels, num_classes)

    def balanced_accuracy(rows: np.ndarray) -> np.ndarray:
        flat = rows.reshape(-1, rows.shape[-1])
        counts = count_classes(run.labels[flat])
        return _mean_where(
            count_classes(right_class[flat]), counts, occurs=counts > 0
        ).reshape(rows.shape[:-1])

    def macro_f1(rows: np.ndarray) -> np.ndarray:
        flat = rows.reshape(-1, rows.shape[-1])
        counts = count_classes(run.labels[flat])
        return _mean_where(
            2 * count_classes(right_class[flat]),
            counts + count_classes(run.predicted[flat]),
            occurs=counts > 0,
        ).reshape(rows.shape[:-1])

    return {
        "balanced accuracy": balanced_accuracy,
        "macro F1": macro_f1,
        "log loss": lambda rows: losses[rows].mean(axis=-1),
    }


def _mean_where(
    numerators: np.ndarray, denominators: np.ndarray, *, occurs: np.ndarray
) -> np.ndarray:
    """Averages fractions [R, K] over the classes that occur in each resample."""
    fractions = numerators / np.maximum(denominators, 1)
    return (fractions * occurs).sum(axis=1) / occurs.sum(axis=1)
