"""Fits a power law to the errors of classifiers trained on more and more images.

error = asymptote + factor * images ** -exponent, the form that errors of learned
classifiers follow over wide ranges (Hestness et al., 2017, "Deep Learning Scaling is
Predictable, Empirically").
"""

from typing import TypedDict

import numpy as np

# The range of the exponents that measured learning curves have; see Hestness et al.
_MAX_EXPONENT = 1.0
_MIN_EXPONENT = 0.05
_START_EXPONENT = 0.5
_MIN_POINTS = 4


class PowerLaw(TypedDict):
    """Holds the constants of error = asymptote + factor * images ** -exponent.

    asymptote: range [0, 1]. factor: at least 0. exponent: more than 0.
    """

    asymptote: float
    factor: float
    exponent: float


def predict_error(law: PowerLaw, images: float) -> float:
    """Returns the error, a fraction, of a classifier trained on a number of images."""
    return law["asymptote"] + law["factor"] * images ** -law["exponent"]


def fit_power_law(
    images: np.ndarray, errors: np.ndarray, *, count: int
) -> PowerLaw | None:
    """Fits a power law by weighted least squares.

    Args:
      images: float [P], numbers of training images, growing.
      errors: float [P], fractions of wrong predictions.
      count: number of images that each error was measured on.

    Returns:
      The power law; None if there are too few points, or if the errors do not fall.
    """
    from scipy import optimize

    if len(images) < _MIN_POINTS or errors[-1] >= errors[0]:
        return None
    # The largest number of images becomes 1, so that the factor is an error as well.
    relative = images / images[-1]

    def compute(x: np.ndarray, asymptote: float, factor: float, exponent: float):
        return asymptote + factor * x**-exponent

    # The standard deviation of a fraction, at least that of a single error.
    deviations = np.sqrt(np.maximum(errors * (1 - errors), 1 / count) / count)
    start = (errors[-1] / 2, max(errors[-1] / 2, 1e-6), _START_EXPONENT)
    try:
        (asymptote, factor, exponent), _ = optimize.curve_fit(
            compute,
            relative,
            errors,
            p0=start,
            sigma=deviations,
            bounds=([0, 0, _MIN_EXPONENT], [1, 1, _MAX_EXPONENT]),
        )
    except RuntimeError:  # It did not converge.
        return None
    return PowerLaw(
        asymptote=float(asymptote),
        factor=float(factor * images[-1] ** exponent),
        exponent=float(exponent),
    )
