"""Solves multinomial logistic regression, the same way for every head."""

import warnings

import numpy as np

_MAX_ITERATIONS = 1000
# Below this number of values, the threads of a matrix product wait for one another
# longer than they compute: a head of 58 images took 10 s of two busy cores, not 0.6 s.
_LARGE = 10_000_000
# For heads that are only compared.
_COMPARED_TOLERANCE = 1e-4
# The least probability that a held-out image is counted with.
_MIN_PROBABILITY = 1e-6


def solve_regression(
    features: np.ndarray,
    labels: np.ndarray,
    strength: float,
    of_class: np.ndarray,
    *,
    tolerance: float = _COMPARED_TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Solves the penalised regression; a class without an image never wins.

    Args:
      features: float [N, D].
      labels: int [N].
      strength: the inverse strength of the penalty, C of scikit-learn.
      of_class: float64 [K], the weight of each class.
      tolerance: the largest component of the gradient; the default suits heads that
        are only compared.

    Returns:
      kernel float64 [D, K] and bias float64 [K].
    """
    import threadpoolctl
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    kernel = np.zeros((features.shape[1], len(of_class)))
    bias = np.full(len(of_class), np.log(_MIN_PROBABILITY))
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return kernel, bias
    threads = 1 if features.size < _LARGE else None
    solver = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS, tol=tolerance)
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(threads):
        # After so many iterations no prediction changes, and a user can change nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Many classes with few photographs each are no mistake.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        solver.fit(features.astype(np.float64), labels, of_class[labels])
    if len(present) == 2:  # scikit-learn then has one column: the difference.
        kernel[:, present] = np.stack([-0.5, 0.5]) * solver.coef_.T
        bias[present] = np.array([-0.5, 0.5]) * solver.intercept_
    else:
        kernel[:, present] = solver.coef_.T
        bias[present] = solver.intercept_
    return kernel, bias
