"""Measures the accuracy on the photographs that a classifier is surest of."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from trainer.evaluation import metrics

_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
_SHARE_IN_SENTENCE = 0.8


class ConfidencePoint(TypedDict):
    """The accuracy on the surest photographs.

    share: of all photographs, range (0, 1].
    min_confidence: the least probability of a predicted class among them.
    accuracy, ci95, count: of them; the interval is Wilson's, 95 %.
    """

    share: float
    min_confidence: float
    accuracy: float
    ci95: list[float]
    count: int


def measure_confidence_curve(
    probabilities: np.ndarray, labels: np.ndarray
) -> list[ConfidencePoint]:
    """Measures the accuracy on the surest 100, 90 ... 10 % of N photographs.

    Args:
      probabilities: float [N, K], range [0, 1]. labels: int [N].
    """
    confidence = probabilities.max(axis=1)
    surest_first = np.argsort(-confidence, kind="stable")
    is_correct = (probabilities.argmax(axis=1) == labels)[surest_first]
    points = []
    for share in _SHARES:
        count = max(1, round(share * len(labels)))
        right = int(is_correct[:count].sum())
        points.append(
            ConfidencePoint(
                share=share,
                min_confidence=float(confidence[surest_first[count - 1]]),
                accuracy=right / count,
                ci95=list(metrics.confidence_interval(right, count)),
                count=count,
            )
        )
    return points


def describe_confidence(points: Sequence[ConfidencePoint]) -> str | None:
    """Returns the accuracy on about the surest 80 % as a sentence.

    It names the share that they really are. None if they are all photographs.
    """
    [point] = [each for each in points if each["share"] == _SHARE_IN_SENTENCE]
    [total] = [each["count"] for each in points if each["share"] == 1]
    if point["count"] == total:
        return None
    low, high = point["ci95"]
    return (
        f"Of the {point['count'] / total:.0%} of the test images with the highest "
        f"confidence, {point['accuracy']:.1%} are right ({point['count']} images, "
        f"confidence from {point['min_confidence']:.2f}; 95 % interval: {low:.1%} to "
        f"{high:.1%})."
    )
