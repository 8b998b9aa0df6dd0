"""Draws the charts of the report."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from pipeline.system.texts import escape_controls
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.reliability import Bin

# A larger confusion matrix cannot be read on a page.
MAX_CONFUSION_CLASSES = 20
# In a larger one, zeros hide the other numbers.
_MAX_CLASSES_WITH_ZEROS = 10
# Above an accuracy of 1, as a share of the axis; less than the distance of two numbers.
_MARGIN = 0.04


def draw_curves(history: Sequence[EpochMetrics]) -> Figure:
    """Draws loss and accuracy over the epochs; dotted lines separate the regimes."""
    figure = Figure(figsize=(6.4, 6.6), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    train_label, val_label = "training (augmented)", "validation"
    loss_axes, accuracy_axes = figure.subplots(2, 1)
    for axes, name, train_values, val_values in (
        (
            loss_axes,
            "loss",
            [line["train_loss"] for line in history],
            [line["val_loss"] for line in history],
        ),
        (
            accuracy_axes,
            "accuracy",
            [line["train_accuracy"] for line in history],
            [line["val_accuracy"] for line in history],
        ),
    ):
        axes.plot(epochs, train_values, marker="o", markersize=3, label=train_label)
        axes.plot(epochs, val_values, marker="o", markersize=3, label=val_label)
        for i in range(1, len(history)):
            regime = history[i]["regime"]
            if regime != history[i - 1]["regime"]:
                axes.axvline(i + 0.5, color="grey", linestyle=":")
                transform = axes.get_xaxis_transform()
                axes.text(i + 0.6, 0.02, regime, color="grey", transform=transform)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    lowest, highest = accuracy_axes.get_ylim()
    if highest > 1:  # No accuracy is, and the axis should not have such a number.
        lowest = min(lowest, 0.9)
        accuracy_axes.set_ylim(lowest, 1 + _MARGIN * (1 - lowest))
    return figure


def draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draws a confusion matrix int [K, K], [true][predicted].

    Of many classes it draws those with the most mistakes, as true or as predicted ones.
    """
    shown: list[int] = list(range(len(classes)))
    if len(classes) > MAX_CONFUSION_CLASSES:
        mistakes = confusion - np.diag(np.diag(confusion))
        order = np.argsort(
            -(mistakes.sum(axis=0) + mistakes.sum(axis=1)), kind="stable"
        )
        shown = sorted(order[:MAX_CONFUSION_CLASSES].tolist())
    # The page shows 9 inches; a larger picture would have smaller letters.
    side = min(max(4.0, 0.7 * len(shown) + 1.5), 9.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    fractions = (confusion / confusion.sum(axis=1, keepdims=True))[np.ix_(shown, shown)]
    confusion = confusion[np.ix_(shown, shown)]
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    names = [escape_controls(classes[k]) for k in shown]
    # Without parse_math, two dollar signs in a name would begin a formula.
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if fractions[row, column] > 0.5 else "black"
        if count or len(shown) <= _MAX_CLASSES_WITH_ZEROS:
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure


def draw_reliability(bins: Sequence[Bin]) -> Figure:
    """Draws accuracy against confidence; the diagonal is perfect calibration."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    confidence = [each["confidence"] for each in bins]
    accuracy = np.array([each["accuracy"] for each in bins])
    low, high = np.array([each["accuracy_ci95"] for each in bins]).T
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect calibration")
    axes.errorbar(
        confidence,
        accuracy,
        yerr=np.maximum(0, [accuracy - low, high - accuracy]),
        marker="o",
        markersize=4,
        capsize=3,
        label="test images, with 95 % intervals",
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    # Outside: one bin alone can be anywhere.
    figure.legend(loc="outside upper center")
    return figure
