"""Calibrates probabilities by a temperature (Guo et al., 2017).

"On Calibration of Modern Neural Networks": logits are divided by one number, so that
the order of the classes stays. The logarithm of the temperature has a normal prior with
mean 0 and standard deviation 0.5, so that a few images change the temperature only a
little. docs/decisions/0053-temperature-with-a-prior.md has the measurement.
"""

import numpy as np

_TEMPERATURES = (0.05, 20.0)
_PRIOR_DEVIATION = 0.5


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the likeliest temperature, given a prior and some images.

    Args:
      logits: float32 [N, K], of images that the weights were not trained on.
      labels: int [N].

    Returns:
      The temperature, range [0.05, 20].
    """
    from scipy import optimize, special

    def compute_loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        log_probabilities = special.log_softmax(scaled, axis=1)
        loss = -log_probabilities[np.arange(len(labels)), labels].sum()
        return float(loss + (log_temperature / _PRIOR_DEVIATION) ** 2 / 2)

    bounds = tuple(np.log(_TEMPERATURES))
    minimum = optimize.minimize_scalar(compute_loss, bounds=bounds, method="bounded")
    return float(np.exp(minimum.x))
