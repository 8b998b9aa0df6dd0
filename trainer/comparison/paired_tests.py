"""Tests whether two classifiers differ on the same photographs, and by how much.

SciPy has the binomial test. It has no interval for paired proportions, no sample size
for McNemar's test and no correction by Holm's method.
"""

import math
from collections.abc import Sequence

import numpy as np

SIGNIFICANCE = 0.05
POWER = 0.8


def mcnemar_p_value(wins: int, losses: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test (McNemar, 1947).

    Photographs that both classifiers get right, or both get wrong, say nothing about
    the difference. Of the others, each is a win or a loss with equal chances if the
    classifiers are equally good.

    wins, losses: photographs that only the second, or only the first, gets right.
    """
    from scipy import stats

    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)


def difference_interval(wins: int, losses: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of the difference of two paired proportions.

    The score interval of Tango (1998, Statistics in Medicine 17, 891-908) holds all
    differences that the score test does not reject. It lies within [-1, 1]. It is more
    than a point even if no photograph changes. It excludes 0 if and only if McNemar's
    asymptotic test rejects 0.

    Args:
      wins, losses: see mcnemar_p_value.
      count: number of photographs, at least 1.
    """
    from scipy import optimize, stats

    z = stats.norm.ppf(1 - SIGNIFICANCE / 2)

    def excess(difference: float) -> float:
        """Returns the squared score minus its limit: negative inside the interval."""
        losses_rate = _constrained_losses_rate(wins, losses, count, difference)
        variance = count * (2 * losses_rate + difference * (1 - difference))
        return (wins - losses - count * difference) ** 2 - z**2 * variance

    estimate = (wins - losses) / count
    # Without wins and losses the excess is 0 at the estimate, which is no limit.
    tiny = 1e-10
    low = optimize.brentq(excess, -1, max(estimate - tiny, -1))
    high = optimize.brentq(excess, min(estimate + tiny, 1), 1)
    return float(low), float(high)


def _constrained_losses_rate(
    wins: int, losses: int, count: int, difference: float
) -> float:
    """Returns the likeliest probability of a loss, given the difference.

    The probability solves the quadratic equation (6) of Tango.
    """
    a = 2 * count
    b = -wins - losses + (2 * count - wins + losses) * difference
    c = -losses * difference * (1 - difference)
    root = math.sqrt(max(b**2 - 4 * a * c, 0))
    return max((root - b) / (2 * a), 0)


def correct_p_values(p_values: Sequence[float]) -> list[float]:
    """Corrects the p-values of several comparisons (Holm, 1979), in the same order.

    If nothing differs, the chance that any corrected p-value is below the significance
    level is at most this level, also if the comparisons depend on one another.
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    in_order = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(in_order, 1.0)
    return corrected.tolist()


def detectable_difference(
    wins: int, losses: int, count: int, *, comparisons: int = 1
) -> float | None:
    """Returns the difference in accuracy that a test of this size most likely finds.

    It is the smallest difference that McNemar's test finds with a chance of 80 %
    (Connor, 1987, Biometrics 43, 207-211), if as many photographs change as here.

    Args:
      wins, losses: see mcnemar_p_value.
      count: number of photographs.
      comparisons: how many comparisons share the significance level.

    Returns:
      The difference, or None if even the largest, 1, would not be found.
    """
    from scipy import optimize, stats

    z_level = stats.norm.ppf(1 - SIGNIFICANCE / comparisons / 2)
    z_power = stats.norm.ppf(POWER)

    def excess(difference: float) -> float:
        # The share of changed photographs is at least the difference.
        changed = max((wins + losses) / count, difference)
        return (
            math.sqrt(count) * difference
            - z_level * math.sqrt(changed)
            - z_power * math.sqrt(changed - difference**2)
        )

    if excess(1.0) <= 0:
        return None
    return float(optimize.brentq(excess, 1e-12, 1.0))
