import numpy as np
import pytest
from scipy import special
from sklearn.metrics import log_loss

from trainer.evaluation.reliability import measure_reliability
from trainer.postprocessing.postprocessing import fit_postprocessing
from trainer.postprocessing.unknown import fit_scorer


def _draw(seed, count, *, confidence):
    """Logits that are too sure by a factor, and labels of the true probabilities."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, 3))
    probabilities = special.softmax(logits, axis=1)
    labels = (probabilities.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    scores = rng.normal(size=count).astype("f4")
    return (confidence * logits).astype("f4"), scores, labels


def _measure(count=2000):
    logits, scores, labels = _draw(0, 1000, confidence=3)
    fitted = fit_postprocessing(
        logits,
        scores,
        labels,
        scorer=fit_scorer(logits, logits),
        calibrated=True,
        coverage=0.9,
        unknown_rate=0.1,
    )
    test = _draw(1, count, confidence=3)
    return fitted, test, measure_reliability(fitted, *test)


def test_calibration_mends_logits_that_are_too_sure():
    fitted, (logits, _, labels), found = _measure()
    before, after = found["before"], found["after"]
    probabilities = special.softmax(logits / fitted.temperature, axis=1)
    assert found["temperature"] == pytest.approx(3, rel=0.15)
    assert before["calibration_error"]["value"] > 0.15
    assert after["calibration_error"]["ci95"][0] < 0.04
    assert after["loss"]["value"] == pytest.approx(log_loss(labels, probabilities))
    one_hot = np.eye(3)[labels]
    assert after["brier"]["value"] == pytest.approx(
        ((probabilities - one_hot) ** 2).sum(axis=1).mean()
    )
    for figure in (*before.values(), *after.values()):
        low, high = figure["ci95"]
        assert low < high
        assert figure["count"] == 2000


def test_sets_cover_and_few_known_images_are_unknown():
    _, _, found = _measure()
    for name, wanted in (("covered", 0.9), ("unknown", 0.1)):
        low, high = found[name]["ci95"]
        assert low - 0.02 < wanted < high + 0.02
    assert 1 <= found["set_size"]["value"] <= 3


def test_bins_hold_every_image_once_in_order_of_confidence():
    _, _, found = _measure(95)
    bins = found["bins"]
    assert [each["count"] for each in bins] == [*[11] * 5, *[10] * 4]
    confidences = [each["confidence"] for each in bins]
    assert confidences == sorted(confidences)


def test_one_image_is_enough():
    _, _, found = _measure(1)
    assert found["after"]["loss"]["count"] == 1
