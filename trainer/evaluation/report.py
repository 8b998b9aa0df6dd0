"""Writes report.html with its pictures, and test_predictions.csv."""

import base64
import csv
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline import decoding
from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import Records
from pipeline.system import files, templates
from trainer.evaluation import figures, metrics
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.figures import WrongImage
from trainer.evaluation.summary import Summary, regime_summary
from trainer.models.classifier import Classifier

_TEMPLATES = pathlib.Path(__file__).parent / "templates"
_MAX_ERRORS = 12


def write_report(
    model_dir: pathlib.Path,
    *,
    summary: Summary,
    history: Sequence[EpochMetrics],
    classifier: Classifier,
    records: Records,
    image_size: int,
    logits: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Writes report.html, its pictures as PNG files, and test_predictions.csv.

    Args:
      history: the lines of metrics.jsonl.
      classifier: the one that computed the logits.
      records: the test split.
      image_size: side of the images in pixels.
      logits: float32 [N, K], in the order of the records.
      labels: int32 [N].
    """
    classes = summary["classes"]
    names = prepared_data.read_names(records)
    probabilities = metrics.softmax(logits)
    _write_predictions(
        model_dir / "test_predictions.csv", names, labels, probabilities, classes
    )
    drawn = {
        "curves": figures.draw_curves(history),
        "confusion": figures.draw_confusion(
            np.array(summary["test"]["confusion"]), classes
        ),
    }
    worst = _find_worst(probabilities, labels)
    if worst:
        images = _read_images(records, worst, image_size)
        heats = _compute_grad_cam(classifier, np.stack([images[i] for i in worst]))
        errors = [
            WrongImage(
                name=names[i],
                image=images[i],
                heat=heat,
                label=classes[labels[i]],
                predicted=classes[probabilities[i].argmax()],
                confidence=float(probabilities[i].max()),
            )
            for i, heat in zip(worst, heats, strict=True)
        ]
        drawn["errors"] = figures.draw_errors(errors)
    folder = model_dir / "report"
    folder.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
    pictures = {name: (folder / f"{name}.png").read_bytes() for name in drawn}
    files.write_text(model_dir / "report.html", render_page(summary, pictures))


def render_page(summary: Summary, pictures: dict[str, bytes]) -> str:
    """Renders report.html.

    pictures: PNG files by name: curves, confusion and, if there are any, errors.
    """
    sources = {
        name: f"data:image/png;base64,{base64.b64encode(png).decode()}"
        for name, png in pictures.items()
    }
    return templates.render(
        _TEMPLATES,
        "report.html",
        escape_html=True,
        test=summary["test"],
        best_regime=summary["best_regime"],
        regimes={name: regime_summary(summary, name) for name in summary["regimes"]},
        config=summary["config"],
        pictures={"errors": None} | sources,
    )


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
            formatted = [f"{probability:.9g}" for probability in row]
            writer.writerow([name, classes[label], classes[row.argmax()], *formatted])


def _find_worst(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Returns the wrong predictions with the highest confidence, the highest first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    by_confidence = wrong[np.argsort(-probabilities[wrong].max(axis=1))]
    return by_confidence[:_MAX_ERRORS].tolist()


def _read_images(
    records: Records, positions: Sequence[int], image_size: int
) -> dict[int, np.ndarray]:
    """Maps positions in the split to images float32 [image_size, image_size, 3]."""
    return {
        position: decoding.decode_and_resize(example["image_bytes"], image_size).numpy()
        for position, example in enumerate(records.dataset)
        if position in positions
    }


def _compute_grad_cam(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Computes where the backbone saw what it predicted (Grad-CAM; Selvaraju, 2017).

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
