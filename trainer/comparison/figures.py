"""Computes the figures of a run, and their differences between two runs."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from trainer.comparison.paired_tests import difference_interval
from trainer.comparison.run_results import RunResults
from trainer.evaluation.metrics import confidence_interval

_RESAMPLES = 9999
# Above this number of photographs, all resamples would take a minute, and fewer give
# limits that are fine enough.
_MANY_PHOTOGRAPHS = 5000
_FEWER_RESAMPLES = 1999
# Number of rows, over all resamples, that are in memory at once.
_BATCH_ROWS = 2_000_000

# Takes positions of photographs, int [R, N], and returns a figure of each resample,
# float [R].
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None if the photographs give no interval."""

    value: float
    interval: tuple[float, float] | None


def run_figures(run: RunResults) -> dict[str, Estimate]:
    """Returns the figures of one run by name; the log loss is in nats."""
    of_classes = [_accuracy(run.is_right[rows]) for rows in class_rows(run)]
    return {
        "accuracy": _accuracy(run.is_right),
        "balanced accuracy": average(of_classes),
        "macro F1": bootstrap(_macro_f1(run), len(run.names)),
        "log loss": bootstrap(_log_loss(run), len(run.names)),
    }


def difference_figures(first: RunResults, second: RunResults) -> dict[str, Estimate]:
    """Returns each figure of the second run less that of the first.

    All intervals are paired: they compare both runs on the same photographs.
    """
    count = len(first.names)
    f1_of_first, f1_of_second = _macro_f1(first), _macro_f1(second)
    losses = photograph_losses(second) - photograph_losses(first)
    of_classes = [
        accuracy_difference(first.is_right[rows], second.is_right[rows])
        for rows in class_rows(first)
    ]
    return {
        "accuracy": accuracy_difference(first.is_right, second.is_right),
        "balanced accuracy": average(of_classes),
        "macro F1": bootstrap(
            lambda rows: f1_of_second(rows) - f1_of_first(rows), count
        ),
        "log loss": bootstrap(lambda rows: losses[rows].mean(axis=-1), count),
    }


def class_rows(run: RunResults) -> list[np.ndarray]:
    """Returns the rows of the photographs of each class that occurs, in its order."""
    return [np.flatnonzero(run.labels == label) for label in np.unique(run.labels)]


def accuracy_difference(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Returns the second accuracy less the first, on the same photographs.

    first, second: bool [N], which photographs each run gets right.
    """
    wins, losses = int((second & ~first).sum()), int((first & ~second).sum())
    return Estimate(
        (wins - losses) / len(first), difference_interval(wins, losses, len(first))
    )


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Averages independent estimates, such as those of the classes.

    The distance from the mean to a limit is the root of the summed squares of the same
    distances of the estimates, divided by their number (MOVER; Zou and Donner, 2008,
    Statistics in Medicine 27, 1693-1702).

    estimates: each has an interval.
    """
    values = np.array([estimate.value for estimate in estimates])
    limits = np.array([estimate.interval for estimate in estimates])
    below, above = np.linalg.norm(limits - values[:, None], axis=0) / len(values)
    mean = float(values.mean())
    return Estimate(mean, (mean - float(below), mean + float(above)))


def bootstrap(statistic: Statistic, count: int) -> Estimate:
    """Computes a figure and its bootstrap interval over photographs (percentiles).

    The interval is None if all resamples give the same figure.

    count: number of photographs, at least 2.
    """
    from scipy import stats

    limits = stats.bootstrap(
        (np.arange(count),),
        lambda rows, axis: statistic(np.atleast_2d(rows)).reshape(rows.shape[:-1]),
        n_resamples=_FEWER_RESAMPLES if count > _MANY_PHOTOGRAPHS else _RESAMPLES,
        batch=max(1, _BATCH_ROWS // count),
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    low, high = float(limits.low), float(limits.high)
    (value,) = statistic(np.arange(count)[None])
    return Estimate(float(value), (low, high) if low < high else None)


def photograph_losses(run: RunResults) -> np.ndarray:
    """Returns the log loss of each photograph, float64 [N], in nats.

    A probability of 0 counts as the smallest one of scikit-learn's log_loss.
    """
    of_label = run.probabilities[np.arange(len(run.labels)), run.labels]
    return -np.log(np.maximum(of_label, np.finfo(float).eps))


def _accuracy(is_right: np.ndarray) -> Estimate:
    right = int(is_right.sum())
    return Estimate(right / len(is_right), confidence_interval(right, len(is_right)))


def _log_loss(run: RunResults) -> Statistic:
    losses = photograph_losses(run)
    return lambda rows: losses[rows].mean(axis=-1)


def _macro_f1(run: RunResults) -> Statistic:
    """Returns a statistic: the mean F1 of the classes that occur in each resample.

    scikit-learn computes the F1 of one sample at a time; thousands would take minutes.
    """
    right_class = np.where(run.is_right, run.labels, len(run.classes))

    def macro_f1(rows: np.ndarray) -> np.ndarray:
        occurring, predicted, right = (
            _count_classes(of_photograph[rows], len(run.classes))
            for of_photograph in (run.labels, run.predicted, right_class)
        )
        f1 = 2 * right / np.maximum(occurring + predicted, 1)
        return (f1 * (occurring > 0)).sum(axis=1) / (occurring > 0).sum(axis=1)

    return macro_f1


def _count_classes(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts each class of each resample: int [R, N] -> int [R, K].

    The value K stands for no class and is not counted.
    """
    resamples = len(classes)
    offsets = np.arange(resamples)[:, None] * (num_classes + 1)
    counts = np.bincount(
        (classes + offsets).ravel(), minlength=resamples * (num_classes + 1)
    )
    return counts.reshape(resamples, -1)[:, :num_classes]
