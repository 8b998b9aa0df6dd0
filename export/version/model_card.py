"""Writes the labels and the model card of a version."""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from export.protocol import messages
from export.version.reduced_precision import MeasuredAccuracy
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS
from pipeline.sources.images import SPLITS
from pipeline.system import files, versions
from trainer.config.train_config import TrainConfig

LABELS_FILE = "labels.txt"
CARD_FILE = "model_card.json"
PAGE_FILE = "model_card.md"

FORMAT = 1

_PACKAGES = ("tensorflow", "keras", "tensorflow-serving-api", "numpy")
_NOT_STATED = "not stated: fill in before you pass the model on"
_BALANCED_METRICS = (
    *("balanced_accuracy", "balanced_accuracy_ci95"),
    *("macro_f1", "macro_f1_ci95"),
)
_VALIDATION_METRICS = ("accuracy", "ci95", "count", "loss", *_BALANCED_METRICS)
_TEST_METRICS = (
    *(*_VALIDATION_METRICS, "top_2_accuracy", "auc"),
    *("calibration_error", "per_class", "confusion"),
)


class Model(TypedDict):
    """The network. regime: the training regime whose best weights are served."""

    backbone: str
    backbone_args: dict[str, Any]
    initial_weights: str
    regime: str
    precision: str


class Data(TypedDict, total=False):
    """The training data. Without the prepared data there are only two keys.

    images: number of images of each split; None without the prepared data.
    images_per_class: class -> split -> number of images.
    left_out: images that the audit left out, as in audit.json.
    """

    source: str | None
    seed: int
    images: dict[str, int] | None
    images_per_class: dict[str, dict[str, int]]
    left_out: Any


class Metrics(TypedDict):
    """Metrics of the best weights, measured in float32, by the names of summary.json.

    served_precision: the accuracy as served; None if it is served in float32.
    """

    validation: dict[str, Any]
    test: dict[str, Any]
    served_precision: MeasuredAccuracy | None


class Preprocessing(TypedDict):
    """The images that the model accepts, and what the graph does with them."""

    formats: list[str]
    image_size: int
    colour: str
    resize: str
    exif_orientation: str
    max_pixels: int


class ModelCard(TypedDict):
    """The content of model_card.json.

    format: number of this schema; it grows if a key changes its meaning.
    created: UTC, ISO 8601.
    classes: in the order of the probabilities.
    versions: package -> version.
    project: version and commit of this project.
    licence: of the model, the initial weights and the data.
    """

    format: int
    created: str
    classes: list[str]
    model: Model
    data: Data
    metrics: Metrics
    preprocessing: Preprocessing
    warmed_up_batch_sizes: list[int]
    versions: dict[str, str]
    project: dict[str, str | None]
    licence: dict[str, str]


def build_model_card(
    config: TrainConfig,
    summary: Mapping[str, Any],
    classes: Sequence[str],
    *,
    regime: str,
    precision: str,
    measured: MeasuredAccuracy | None,
) -> ModelCard:
    """Returns the content of model_card.json.

    Args:
      summary: the content of the run's summary.json.
      regime: the training regime whose best weights are served.
      precision: "float32" or "bfloat16".
      measured: the accuracy as served; None if it is served in float32.
    """
    test_metrics = summary.get("test", {})
    regime_metrics = summary.get(regime, {})
    return {
        "format": FORMAT,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classes": list(classes),
        "model": {
            "backbone": config.backbone,
            "backbone_args": dict(config.backbone_args),
            "initial_weights": pathlib.Path(config.weights).name,
            "regime": regime,
            "precision": precision,
        },
        "data": _read_data(config),
        "metrics": {
            "validation": {
                name: regime_metrics.get(f"val_{name}") for name in _VALIDATION_METRICS
            },
            "test": {name: test_metrics.get(name) for name in _TEST_METRICS},
            "served_precision": measured,
        },
        "preprocessing": {
            "formats": list(DECODABLE_FORMATS),
            "image_size": config.image_size,
            "colour": "RGB",
            "resize": "a JPEG of at least twice the size is decoded at a half, a "
            "quarter or an eighth; bilinear to a square, without keeping the aspect "
            "ratio; anti-aliased from three times the size on",
            "exif_orientation": "not applied: turn photographs upright before you send "
            "them, as the preparation did and export.client does",
            "max_pixels": MAX_PIXELS,
        },
        "warmed_up_batch_sizes": list(messages.WARMUP_BATCH_SIZES),
        "versions": versions.package_versions(_PACKAGES),
        "project": versions.project_version(),
        "licence": {
            "model": _NOT_STATED,
            "initial_weights": _NOT_STATED,
            "data": _NOT_STATED,
        },
    }


def _read_data(config: TrainConfig) -> Data:
    try:
        audit = json.loads(pathlib.Path(config.data_dir, "audit.json").read_text())
    except (OSError, ValueError):
        return {"source": config.source, "images": None}
    counts = audit["classes"]
    return {
        "source": audit["settings"]["source"],
        "seed": audit["settings"]["seed"],
        "images": {
            split: sum(count[split] for count in counts.values()) for split in SPLITS
        },
        "images_per_class": counts,
        "left_out": audit["findings"],
    }


def write_model_card(version_dir: pathlib.Path, card: ModelCard) -> None:
    """Writes labels.txt, model_card.json and model_card.md."""
    labels = "".join(f"{name}\n" for name in card["classes"])
    files.write_text(version_dir / LABELS_FILE, labels)
    files.write_json(version_dir / CARD_FILE, card)
    files.write_text(version_dir / PAGE_FILE, _render_page(card))


def _render_page(card: ModelCard) -> str:
    model = card["model"]
    lines = [
        "# Model card",
        "",
        f"Classifies photographs as {', '.join(card['classes'])}. "
        f"{model['backbone']} ({model['initial_weights']} weights), regime "
        f"`{model['regime']}`, served in {model['precision']}. "
        f"Created {card['created']}.",
        "",
        *_metrics_lines(card["metrics"], model["precision"]),
        *_data_lines(card["data"]),
        "## Input",
        "",
        *(f"- {name}: {_join(value)}" for name, value in card["preprocessing"].items()),
        "",
        "## Licences",
        "",
        *(f"- {name}: {licence}" for name, licence in card["licence"].items()),
        "",
        "## Versions",
        "",
        *(f"- {name} {version}" for name, version in card["versions"].items()),
    ]
    return "\n".join(lines) + "\n"


def _metrics_lines(metrics: Metrics, precision: str) -> list[str]:
    lines = [
        "## Accuracy",
        "",
        "Measured in float32, before the export; in brackets the 95 % interval.",
        "",
        "| split | photographs | accuracy | balanced accuracy | macro F1 |",
        "|---|---|---|---|---|",
        _accuracy_row("validation", metrics["validation"]),
        _accuracy_row("test", metrics["test"]),
        "",
    ]
    measured = metrics["served_precision"]
    if measured is not None:
        lines += [
            f"Served in {precision}, the accuracy on {measured['count']} test "
            f"photographs is {measured['served']:.3f}; in float32 it is "
            f"{measured['float32']:.3f}.",
            "",
        ]
    per_class = metrics["test"].get("per_class")
    if per_class:
        lines += [
            "| class | precision | recall | test photographs |",
            "|---|---|---|---|",
            *(
                f"| {name} | {row['precision']:.3f} | {row['recall']:.3f} | "
                f"{row['count']} |"
                for name, row in per_class.items()
            ),
            "",
        ]
    return lines


def _accuracy_row(split: str, metrics: Mapping[str, Any]) -> str:
    if metrics["accuracy"] is None:
        return f"| {split} | not measured | | | |"
    cells = [
        _format_figure(metrics.get(name), metrics.get(interval))
        for name, interval in (
            ("accuracy", "ci95"),
            ("balanced_accuracy", "balanced_accuracy_ci95"),
            ("macro_f1", "macro_f1_ci95"),
        )
    ]
    return f"| {split} | {metrics['count']} | {' | '.join(cells)} |"


def _format_figure(value: float | None, interval: list[float] | None) -> str:
    """Returns a figure with its 95 % interval; runs of earlier versions lack some."""
    if value is None or interval is None:
        return "not measured"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _data_lines(data: Data) -> list[str]:
    lines = ["## Training data", "", f"Source: `{data['source']}`.", ""]
    if data["images"]:
        lines += [
            f"| class | {' | '.join(SPLITS)} |",
            "|---" * (1 + len(SPLITS)) + "|",
            *(
                f"| {name} | {' | '.join(str(count[split]) for split in SPLITS)} |"
                for name, count in data["images_per_class"].items()
            ),
            "",
            "Near duplicates are in the same split, so no test photograph has a near "
            "duplicate in the training split.",
            "",
        ]
    return lines


def _join(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
