"""Makes prediction sets: the true class is in the set with a stated frequency.

Split conformal prediction with the score 1 - p (Sadinle, Lei and Wasserman, 2019,
"Least Ambiguous Set-Valued Classifiers with Bounded Error Levels"). Its guarantee holds
on average over photographs like those of validation, whatever the model is.
"""

import math

import numpy as np

# Products such as 10 * 0.9 are a little more than a whole number.
_ROUNDING = 1e-9


def fit_min_probability(
    probabilities: np.ndarray, labels: np.ndarray, coverage: float
) -> float:
    """Returns the probability from which a class belongs to the prediction set.

    Args:
      probabilities: float [N, K], range [0, 1], of images that the weights were not
        trained on.
      labels: int [N].
      coverage: at least this share of the sets must hold the true class, range (0, 1).

    Returns:
      The probability. If N is less than smallest_count(coverage), it is 0, so that
      each set holds every class.
    """
    rank = math.ceil((len(labels) + 1) * coverage - _ROUNDING)
    if rank > len(labels):
        return 0.0
    of_true_class = probabilities[np.arange(len(labels)), labels]
    return float(np.sort(of_true_class)[len(labels) - rank])


def smallest_count(coverage: float) -> int:
    """Returns the smallest number of images that can guarantee a coverage.

    coverage: range (0, 1).
    """
    return math.ceil(coverage / (1 - coverage) - _ROUNDING)
