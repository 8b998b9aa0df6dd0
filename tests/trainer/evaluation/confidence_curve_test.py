import numpy as np
import pytest

from trainer.evaluation import metrics
from trainer.evaluation.confidence_curve import (
    describe_confidence,
    measure_confidence_curve,
)


def _measure():
    """Ten images with confidences 0.51 ... 0.96; two of the least sure are wrong."""
    confidence = np.array([0.96, 0.51, 0.86, 0.61, 0.76, 0.91, 0.56, 0.81, 0.66, 0.71])
    probabilities = np.stack([1 - confidence, confidence], axis=1)
    labels = np.where(np.isin(confidence, [0.56, 0.61]), 0, 1)
    return measure_confidence_curve(probabilities, labels)


def test_the_surest_images_are_counted():
    points = _measure()
    assert [point["count"] for point in points] == list(range(10, 0, -1))
    assert [point["accuracy"] for point in points[:4]] == pytest.approx(
        [8 / 10, 7 / 9, 7 / 8, 1.0]
    )
    assert points[2]["min_confidence"] == pytest.approx(0.61)
    assert points[2]["ci95"] == list(metrics.confidence_interval(7, 8))
    assert points[9] == {
        "share": 0.1,
        "min_confidence": pytest.approx(0.96),
        "accuracy": 1.0,
        "ci95": list(metrics.confidence_interval(1, 1)),
        "count": 1,
    }


def test_the_sentence_is_about_the_surest_80_percent():
    assert describe_confidence(_measure()) == (
        "Of the 80% of the test images with the highest confidence, 87.5% are right (8 "
        "images, confidence from 0.61; 95 % interval: 52.9% to 97.8%)."
    )


def test_one_image_is_enough():
    points = measure_confidence_curve(np.array([[0.2, 0.8]]), np.array([0]))
    assert {(point["count"], point["accuracy"]) for point in points} == {(1, 0.0)}


def test_the_sentence_names_the_share_that_a_few_images_have():
    """80 % of 7 images are 6, which are 86 %; of 2 images they are both."""
    probabilities = np.array([[0.2, 0.8]] * 7)
    labels = np.ones(7, int)
    sentence = describe_confidence(measure_confidence_curve(probabilities, labels))
    assert sentence is not None
    assert sentence.startswith("Of the 86% of the test images with the highest")
    points = measure_confidence_curve(probabilities[:2], labels[:2])
    assert describe_confidence(points) is None
