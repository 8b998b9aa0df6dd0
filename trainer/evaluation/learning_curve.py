"""Estimates from the accuracies of heads whether more photographs would help."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from trainer.evaluation import metrics
from trainer.evaluation.power_law import PowerLaw, fit_power_law, predict_error

_NUM_RESAMPLES = 200
# The prediction is for this many times the photographs of today.
_MORE = 2


class CurvePoint(TypedDict):
    """The accuracy of heads that are trained on a number of photographs.

    photographs: number of training photographs of each head.
    accuracy: on the held-out photographs of all heads; ci95: its 95 % interval.
    count: number of held-out photographs.
    draws: the accuracy of each head on its own held-out photographs.
    """

    photographs: int
    accuracy: float
    ci95: list[float]
    count: int
    draws: list[float]


class Prediction(TypedDict):
    """What more photographs would bring.

    photographs: twice the number of today. accuracy, gain: what the power law says.
    ..._ci95: 95 % intervals (bootstrap over the held-out photographs).
    """

    photographs: int
    accuracy: float
    accuracy_ci95: list[float]
    gain: float
    gain_ci95: list[float]


class LearningCurve(TypedDict):
    """Accuracy by number of training photographs.

    sentence: what the curve says, or why there is none.
    points: by growing number of photographs; empty without a curve.
    power_law: of the error; None if none fits.
    prediction: None without a power law.
    """

    sentence: str
    points: list[CurvePoint]
    power_law: PowerLaw | None
    prediction: Prediction | None


def make_learning_curve(
    photographs: Sequence[int], is_correct: np.ndarray, draws: np.ndarray
) -> LearningCurve:
    """Makes the learning curve of some heads.

    Args:
      photographs: the P numbers of training photographs, growing.
      is_correct: bool [P, M], for each number whether each held-out photograph is
        classified correctly by a head that was not trained on it.
      draws: int [M], the draw of training photographs of that head.
    """
    points = [
        CurvePoint(
            photographs=int(number),
            accuracy=float(row.mean()),
            ci95=list(metrics.confidence_interval(int(row.sum()), len(row))),
            count=len(row),
            draws=[float(row[draws == draw].mean()) for draw in np.unique(draws)],
        )
        for number, row in zip(photographs, is_correct, strict=True)
    ]
    numbers = np.array(photographs, np.float64)
    law = fit_power_law(numbers, 1 - is_correct.mean(axis=1), count=len(draws))
    prediction = None
    if law is not None:
        prediction = _predict(law, numbers, is_correct)
    return LearningCurve(
        sentence=_describe(points, prediction),
        points=points,
        power_law=law,
        prediction=prediction,
    )


def make_empty_curve(reason: str) -> LearningCurve:
    """Makes the learning curve of a run that has none.

    reason: why there is none, as a sentence.
    """
    return LearningCurve(sentence=reason, points=[], power_law=None, prediction=None)


def _predict(law: PowerLaw, numbers: np.ndarray, is_correct: np.ndarray) -> Prediction:
    """Predicts the accuracy with _MORE times as many photographs."""
    today = numbers[-1]
    rng = np.random.default_rng(0)
    laws = []
    count = is_correct.shape[1]
    for _ in range(_NUM_RESAMPLES):
        sample = rng.integers(0, count, count)
        errors = 1 - is_correct[:, sample].mean(axis=1)
        # Where the errors of a sample do not fall, more photographs bring nothing.
        laws.append(
            fit_power_law(numbers, errors, count=count)
            or PowerLaw(asymptote=float(errors.mean()), factor=0.0, exponent=1.0)
        )
    later, now = (
        np.array([1 - predict_error(each, number) for each in laws])
        for number in (_MORE * today, today)
    )
    accuracy = 1 - predict_error(law, _MORE * today)
    return Prediction(
        photographs=int(_MORE * today),
        accuracy=accuracy,
        accuracy_ci95=np.quantile(later, (0.025, 0.975)).tolist(),
        gain=accuracy - (1 - predict_error(law, today)),
        gain_ci95=np.quantile(later - now, (0.025, 0.975)).tolist(),
    )


def _describe(points: Sequence[CurvePoint], prediction: Prediction | None) -> str:
    today = points[-1]
    if prediction is None:
        return (
            f"Accuracy does not grow from {points[0]['photographs']:,} to "
            f"{today['photographs']:,} photographs ({today['accuracy']:.1%} of "
            f"{today['count']:,} held-out photographs), so the curve does not show "
            "whether more of them would help."
        )
    low, high = prediction["gain_ci95"]
    before = prediction["accuracy"] - prediction["gain"]
    return (
        f"Twice as many photographs ({today['photographs']:,} to "
        f"{prediction['photographs']:,}): the accuracy of the solved head goes from "
        f"about {before:.1%} to about {prediction['accuracy']:.1%}, a gain of "
        f"{100 * prediction['gain']:.1f} points (95 % interval: {100 * low:.1f} to "
        f"{100 * high:.1f}; {today['count']:,} held-out photographs)."
    )
