"""Draws the pictures of the report: curves, confusion matrix, errors."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from trainer.evaluation.epoch_metrics import EpochMetrics


@dataclasses.dataclass(frozen=True)
class WrongImage:
    """One wrongly classified image.

    image: float32 [S, S, 3], range [0, 255].
    heat: float32 [S, S], range [0, 1]; see saliency.compute_grad_cam.
    label, predicted: names of classes.
    confidence: probability of the predicted class.
    """

    name: str
    image: np.ndarray
    heat: np.ndarray
    label: str
    predicted: str
    confidence: float


def draw_curves(history: Sequence[EpochMetrics]) -> Figure:
    """Draws loss and accuracy over the epochs; dotted lines separate the regimes."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    train_label, val_label = "training (augmented)", "validation"
    loss_axes, accuracy_axes = figure.subplots(1, 2)
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
    return figure


def draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draws a confusion matrix int [K, K], [true][predicted]."""
    side = max(4.0, 0.7 * len(classes) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    fractions = confusion / confusion.sum(axis=1, keepdims=True)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if fractions[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure


def draw_errors(errors: Sequence[WrongImage]) -> Figure:
    """Draws each wrong image beside the same image with its heat map."""
    columns = 3
    rows = -(-len(errors) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    pairs = grid.reshape(rows * columns, 2)
    for (left, right), error in zip(pairs, errors, strict=False):
        pixels = error.image / 255
        left.imshow(pixels)
        left.set_title(
            f"{error.label}, not {error.predicted} ({error.confidence:.0%})",
            fontsize=8,
            loc="left",
        )
        below = 1.02 * error.image.shape[0]
        left.text(0, below, error.name, fontsize=6, va="top", color="dimgrey")
        right.imshow(pixels)
        right.imshow(error.heat, cmap="inferno", alpha=0.55)
    return figure
