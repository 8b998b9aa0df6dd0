import numpy as np
import pytest

from trainer.evaluation.power_law import PowerLaw, fit_power_law, predict_error

NUMBERS = np.array([80, 160, 320, 560, 800.0])


@pytest.mark.parametrize(
    ("asymptote", "factor", "exponent"),
    [(0.08, 1.2, 0.5), (0.02, 0.5, 0.2), (0.2, 9.0, 0.9)],
)
def test_a_known_power_law_is_recovered(asymptote, factor, exponent):
    law = PowerLaw(asymptote=asymptote, factor=factor, exponent=exponent)
    errors = np.array([predict_error(law, number) for number in NUMBERS])
    found = fit_power_law(NUMBERS, errors, count=900)
    assert found is not None
    assert found["asymptote"] == pytest.approx(asymptote, abs=1e-3)
    assert found["exponent"] == pytest.approx(exponent, rel=1e-2)
    assert predict_error(found, 1600) == pytest.approx(predict_error(law, 1600), 1e-4)


def test_errors_that_do_not_fall_and_too_few_points_have_none():
    assert fit_power_law(NUMBERS, np.full(5, 0.1), count=900) is None
    assert fit_power_law(NUMBERS, np.linspace(0.1, 0.2, 5), count=900) is None
    assert fit_power_law(NUMBERS[:3], np.array([0.3, 0.2, 0.1]), count=900) is None


def test_errors_of_zero_can_be_fitted():
    law = fit_power_law(NUMBERS, np.array([0.1, 0.02, 0, 0, 0]), count=100)
    assert law is not None
    assert 0 <= predict_error(law, 1600) < 0.01
