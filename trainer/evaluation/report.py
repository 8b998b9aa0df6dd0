"""report.html and its pictures: curves, confusion, worst errors with saliency."""

import base64
import csv
import html
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from matplotlib import ticker
from matplotlib.figure import Figure

from pipeline import decoding
from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import Records
from pipeline.system import files
from trainer.evaluation import metrics
from trainer.models.classifier import Classifier

_WORST_ERRORS = 12


def write_report(
    model_dir: pathlib.Path,
    *,
    summary: Mapping[str, object],
    history: Sequence[Mapping[str, object]],
    classifier: Classifier,
    records: Records,
    image_size: int,
    logits: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Writes report.html, its pictures as PNG, and test_predictions.csv.

    Args:
      summary: see train.train.
      history: the lines of metrics.jsonl.
      classifier: what made the logits.
      records: the test split.
      image_size: pixels.
      logits: float32 [N, K], in the order of the records.
      labels: int32 [N].
    """
    classes = summary["classes"]
    names = prepared_data.read_names(records)
    probabilities = metrics.softmax(logits)
    _write_predictions(
        model_dir / "test_predictions.csv", names, labels, probabilities, classes
    )
    worst = _find_worst(probabilities, labels)
    figures = {
        "curves": _draw_curves(history),
        "confusion": _draw_confusion(np.array(summary["test"]["confusion"]), classes),
    }
    if worst:
        images = _read_images(records, worst, image_size)
        figures["errors"] = _draw_errors(
            [
                (images[i], names[i], labels[i], probabilities[i].argmax(), heat)
                for i, heat in zip(
                    worst,
                    _grad_cam(classifier, np.stack([images[i] for i in worst])),
                    strict=True,
                )
            ],
            probabilities[worst].max(axis=1),
            classes,
        )
    folder = model_dir / "report"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
    pictures = {name: (folder / f"{name}.png").read_bytes() for name in figures}
    files.write_text(model_dir / "report.html", _page(summary, pictures))


def _write_predictions(
    path: pathlib.Path,
    names: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "label", "predicted", *classes])
        for name, label, row in zip(names, labels, probabilities, strict=True):
            shown = [f"{probability:.9g}" for probability in row]
            writer.writerow([name, classes[label], classes[row.argmax()], *shown])


def _find_worst(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """The errors the model was surest of, surest first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest_first = wrong[np.argsort(-probabilities[wrong].max(axis=1))]
    return surest_first[:_WORST_ERRORS].tolist()


def _read_images(
    records: Records, positions: Sequence[int], image_size: int
) -> dict[int, np.ndarray]:
    """Position in the split -> float32 [image_size, image_size, 3]."""
    wanted = set(positions)
    return {
        position: decoding.decode_and_resize(example["image_bytes"], image_size).numpy()
        for position, example in enumerate(records.dataset)
        if position in wanted
    }


def _grad_cam(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Where the backbone saw what it predicted (Grad-CAM; Selvaraju et al., 2017).

    images: float32 [N, S, S, 3], range [0, 255].

    Returns:
      float32 [N, S, S], range [0, 1].
    """
    features = classifier.backbone(classifier.normalise(images), training=False)
    with tf.GradientTape() as tape:
        tape.watch(features)
        top = tf.reduce_max(classifier.head(features, training=False), axis=1)
    weights = tf.reduce_mean(tape.gradient(top, features), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0]
    peak = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(heat, peak).numpy()


def _draw_curves(history: Sequence[Mapping[str, object]]) -> Figure:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    epochs = np.arange(1, len(history) + 1)
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, shown in (("train", "training (augmented)"), ("val", "validation")):
            values = [line[f"{split}_{key}"] for line in history]
            axes.plot(epochs, values, marker="o", markersize=3, label=shown)
        for i in range(1, len(history)):
            if history[i]["regime"] != history[i - 1]["regime"]:
                axes.axvline(i + 0.5, color="grey", linestyle=":")
                axes.text(
                    i + 0.6,
                    0.02,
                    history[i]["regime"],
                    color="grey",
                    transform=axes.get_xaxis_transform(),
                )
        axes.set(xlabel="epoch", ylabel=key)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    side = max(4.0, 0.7 * len(classes) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / confusion.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure


def _draw_errors(
    errors: Sequence[tuple], confidences: np.ndarray, classes: Sequence[str]
) -> Figure:
    """errors: (image, name, label, predicted, heat), each drawn as a pair."""
    columns = 3
    rows = -(-len(errors) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    pairs = grid.reshape(rows * columns, 2)
    for pair, error, confidence in zip(pairs, errors, confidences, strict=False):
        image, name, label, predicted, heat = error
        pixels = image / 255
        pair[0].imshow(pixels)
        pair[0].set_title(
            f"{classes[label]}, not {classes[predicted]} ({confidence:.0%})",
            fontsize=8,
            loc="left",
        )
        pair[0].text(
            0, 1.02 * image.shape[0], name, fontsize=6, va="top", color="dimgrey"
        )
        pair[1].imshow(pixels)
        pair[1].imshow(heat, cmap="inferno", alpha=0.55)
    return figure


def _page(summary: Mapping[str, object], pictures: Mapping[str, bytes]) -> str:
    test = summary["test"]
    low, high = test["ci95"]
    regimes = "".join(
        _row(
            name,
            *(
                f"{summary[name][f'{key}_accuracy']:.4f} "
                f"[{summary[name][f'{key}_ci95'][0]:.4f}, "
                f"{summary[name][f'{key}_ci95'][1]:.4f}]"
                for key in ("val", "test")
            ),
            f"{summary[name]['best_epoch']} of {summary[name]['epochs']}",
            f"{summary[name]['seconds']:.0f}",
        )
        for name in summary["regimes"]
    )
    per_class = "".join(
        _row(
            name,
            *(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1")),
            figures["count"],
        )
        for name, figures in test["per_class"].items()
    )
    settings = "".join(_row(*item) for item in summary["config"].items())
    shown = {name: _picture(name, png) for name, png in pictures.items()}
    errors = shown.get("errors", "<p>There was none on the test split.</p>")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Training report</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto;
       padding: 0 1rem; color: #222; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; }}
th, td {{ text-align: left; padding: .2rem .9rem .2rem 0;
         border-bottom: 1px solid #ddd; }}
.headline {{ font-size: 1.6rem; }}
</style></head><body>
<h1>Training report</h1>
<p class="headline">Test accuracy {test["accuracy"]:.4f}</p>
<p>95 % interval {low:.4f} to {high:.4f}, from {test["count"]} images that neither
training nor the choice of weights has seen. Loss {test["loss"]:.4f}, top-2 accuracy
{test["top_2_accuracy"]:.4f}, AUC {test["auc"]:.4f}, calibration error
{test["calibration_error"]:.4f}. Best regime on validation:
{html.escape(summary["best_regime"])}.</p>
<h2>Regimes</h2>
<table>{_row("regime", "validation", "test", "best epoch", "seconds", tag="th")}
{regimes}</table>
<h2>Curves</h2>{shown["curves"]}
<h2>Classes</h2>
<table>{_row("class", "precision", "recall", "F1", "test images", tag="th")}
{per_class}</table>
{shown["confusion"]}
<h2>Surest errors</h2>
<p>Beside each image: where the network saw the class it predicted (Grad-CAM).</p>
{errors}
<h2>Settings</h2><table>{settings}</table>
</body></html>
"""


def _row(*cells: object, tag: str = "td") -> str:
    inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def _picture(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{name}" src="data:image/png;base64,{data}">'
