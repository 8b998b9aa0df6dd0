import numpy as np
import pytest

from trainer.evaluation.confidence_curve import measure_confidence_curve
from trainer.evaluation.curve_figures import draw_confidence_curve, draw_learning_curve
from trainer.evaluation.learning_curve import make_learning_curve


def _make_curve(errors):
    is_correct = np.linspace(0, 1, 200)[None] >= np.array(errors)[:, None]
    return make_learning_curve([10, 20, 40, 70, 100], is_correct, np.arange(200) % 4)


def test_the_learning_curve_shows_draws_points_and_prediction(tmp_path):
    curve = _make_curve([0.4, 0.3, 0.24, 0.2, 0.18])
    figure = draw_learning_curve(curve)
    [axes] = figure.axes
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["10", "20", "40", "70", "100", "200"]
    measured, predicted = axes.containers
    np.testing.assert_allclose(
        measured[0].get_ydata(), [point["accuracy"] for point in curve["points"]]
    )
    assert predicted[0].get_ydata() == pytest.approx([curve["prediction"]["accuracy"]])
    figure.savefig(tmp_path / "curve.png")  # Warnings about the layout are errors.


def test_without_a_power_law_only_the_points_are_drawn():
    figure = draw_learning_curve(_make_curve([0.2] * 5))
    assert len(figure.axes[0].containers) == 1


def test_confidence_is_drawn_from_all_to_the_surest(tmp_path):
    confidence = np.linspace(0.5, 1, 60)
    points = measure_confidence_curve(
        np.stack([confidence, 1 - confidence], axis=1), (confidence < 0.6).astype(int)
    )
    figure = draw_confidence_curve(points)
    [axes] = figure.axes
    [line] = axes.get_lines()
    np.testing.assert_allclose(
        line.get_xydata(), [[100 * each["share"], each["accuracy"]] for each in points]
    )
    assert axes.xaxis_inverted()
    figure.savefig(tmp_path / "confidence.png")
