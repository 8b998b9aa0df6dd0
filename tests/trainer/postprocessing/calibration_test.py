import numpy as np
import pytest
from scipy import special

from trainer.postprocessing.calibration import fit_temperature


def _draw(temperature, *, count=20_000, num_classes=4):
    """Logits whose probabilities are true after a division by the temperature."""
    rng = np.random.default_rng(3)
    true_logits = 2 * rng.normal(size=(count, num_classes))
    probabilities = special.softmax(true_logits, axis=1)
    labels = (probabilities.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return (temperature * true_logits).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_drawn_labels_is_found(temperature):
    logits, labels = _draw(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_the_gradient_of_loss_and_prior_is_zero():
    logits, labels = _draw(2.0, count=50)
    temperature = fit_temperature(logits, labels)
    scaled = logits / temperature
    probabilities = special.softmax(scaled, axis=1)
    mean_logit = (probabilities * scaled).sum(axis=1)
    # The derivatives by the logarithm of the temperature.
    of_loss = (scaled[np.arange(50), labels] - mean_logit).sum()
    of_prior = np.log(temperature) / 0.5**2
    assert abs(of_loss + of_prior) < 1e-2 * abs(of_prior)


def test_equal_logits_leave_the_temperature_at_one():
    labels = np.arange(30) % 4
    found = fit_temperature(np.zeros((30, 4), np.float32), labels)
    assert found == pytest.approx(1.0, abs=1e-4)


def test_few_images_move_the_temperature_little():
    logits, _ = _draw(1.0, count=1000)
    right = logits.argmax(axis=1)
    few, many = (fit_temperature(logits[:n], right[:n]) for n in (5, 1000))
    assert many < 0.3 < few < 1.0


def test_hopeless_logits_get_a_high_temperature():
    logits, _ = _draw(1.0, count=300)
    assert 3 < fit_temperature(logits, logits.argmin(axis=1)) <= 20
