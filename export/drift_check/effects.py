"""Measures how much two samples differ, with 95 % intervals."""

from typing import TypedDict

import numpy as np

from trainer.evaluation.metrics import confidence_interval


class ShareShift(TypedDict):
    """The share of one predicted class.

    reference, new: fractions of the images of each sample.
    counts: numbers of images in the reference and in the new sample.
    difference: new less reference; ci95: its 95 % interval.
    """

    name: str
    reference: float
    new: float
    counts: list[int]
    difference: float
    ci95: list[float]


class MeanShift(TypedDict):
    """The mean of one value of the images.

    reference, new: the means.
    difference: new less reference; ci95: its 95 % interval.
    """

    name: str
    reference: float
    new: float
    difference: float
    ci95: list[float]


def compare_shares(
    name: str, reference: tuple[int, int], new: tuple[int, int]
) -> ShareShift:
    """Compares two fractions, each given as (count, total).

    The interval is that of Newcombe (1998, method 10), computed from the intervals of
    Wilson.
    """
    old_share, new_share = reference[0] / reference[1], new[0] / new[1]
    old_low, old_high = confidence_interval(*reference)
    new_low, new_high = confidence_interval(*new)
    difference = new_share - old_share
    low = difference - np.hypot(new_share - new_low, old_high - old_share)
    high = difference + np.hypot(new_high - new_share, old_share - old_low)
    return ShareShift(
        name=name,
        reference=old_share,
        new=new_share,
        counts=[reference[0], new[0]],
        difference=difference,
        ci95=[float(low), float(high)],
    )


def compare_means(name: str, reference: np.ndarray, new: np.ndarray) -> MeanShift:
    """Compares two means; the interval is that of Welch (1947).

    reference, new: float [m], float [n], each of at least two values.
    """
    from scipy import stats

    reference, new = reference.astype(np.float64), new.astype(np.float64)
    difference = float(new.mean() - reference.mean())
    if np.ptp(reference) == np.ptp(new) == 0:
        ci95 = [difference, difference]  # SciPy would divide by 0.
    else:
        interval = stats.ttest_ind(new, reference, equal_var=False).confidence_interval(
            0.95
        )
        ci95 = [float(interval.low), float(interval.high)]
    return MeanShift(
        name=name,
        reference=float(reference.mean()),
        new=float(new.mean()),
        difference=difference,
        ci95=ci95,
    )
