"""Draws accuracy by number of photographs, and by confidence."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from trainer.evaluation.confidence_curve import ConfidencePoint
from trainer.evaluation.learning_curve import LearningCurve
from trainer.evaluation.power_law import predict_error


def draw_learning_curve(curve: LearningCurve) -> Figure:
    """Draws the accuracies, the power law and its prediction.

    curve: a curve that has points.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    points = curve["points"]
    numbers = [point["photographs"] for point in points]
    for point in points:
        draws = point["draws"]
        axes.plot([point["photographs"]] * len(draws), draws, ".", color="lightgrey")
    axes.plot([], [], ".", color="lightgrey", label="one draw")
    _draw_intervals(
        axes,
        numbers,
        [point["accuracy"] for point in points],
        [point["ci95"] for point in points],
        label=f"mean on {points[-1]['count']:,} held-out photographs",
    )
    law, prediction = curve["power_law"], curve["prediction"]
    if law is not None and prediction is not None:
        along = np.geomspace(numbers[0], prediction["photographs"])
        accuracies = [1 - predict_error(law, number) for number in along]
        axes.plot(along, accuracies, "--", color="C1", label="power law")
        _draw_intervals(
            axes,
            [prediction["photographs"]],
            [prediction["accuracy"]],
            [prediction["accuracy_ci95"]],
            colour="C1",
            label="prediction",
        )
        numbers.append(prediction["photographs"])
    axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set(xlabel="training photographs", ylabel="accuracy of the solved head")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def draw_confidence_curve(points: Sequence[ConfidencePoint]) -> Figure:
    """Draws the accuracy on the surest photographs by their share."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    shares = [100 * point["share"] for point in points]
    accuracies = [point["accuracy"] for point in points]
    low, high = np.array([point["ci95"] for point in points]).T
    axes.fill_between(shares, low, high, alpha=0.2, label="95 % interval")
    axes.plot(shares, accuracies, marker="o", markersize=4, label="accuracy")
    for point in points:
        axes.annotate(
            f"{point['min_confidence']:.2f}",
            (100 * point["share"], point["accuracy"]),
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            fontsize=7,
            color="dimgrey",
        )
    axes.set(
        xlabel="the surest photographs, % of test (small: their least confidence)",
        ylabel="accuracy",
    )
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _draw_intervals(
    axes,
    numbers: Sequence[float],
    accuracies: Sequence[float],
    intervals: Sequence[Sequence[float]],
    *,
    label: str,
    colour: str = "C0",
) -> None:
    low, high = np.array(intervals).T
    middle = np.array(accuracies)
    axes.errorbar(
        numbers,
        middle,
        # A bootstrap interval may end a little before its estimate.
        yerr=np.maximum([middle - low, high - middle], 0),
        fmt="o",
        capsize=3,
        color=colour,
        label=label,
    )
