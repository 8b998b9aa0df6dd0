"""Writes the labels and the model card of a version."""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from export.protocol import messages
from export.version.card_page import render_page
from export.version.card_types import Data, ModelCard
from export.version.reduced_precision import MeasuredAccuracy
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS
from pipeline.inspection.reencoding import StoredForm
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


def build_model_card(
    config: TrainConfig,
    summary: Mapping[str, Any],
    classes: Sequence[str],
    *,
    regime: str,
    precision: str,
    measured: MeasuredAccuracy | None,
    form: StoredForm = StoredForm(),
) -> ModelCard:
    """Returns the content of model_card.json.

    Args:
      summary: the content of the run's summary.json.
      regime: the training regime whose best weights are served.
      precision: "float32" or "bfloat16".
      measured: the accuracy as served; None if it is served in float32.
      form: how the training images were stored.
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
        "reliability": summary["reliability"],
        "preprocessing": {
            "formats": list(DECODABLE_FORMATS),
            "image_size": config.image_size,
            "colour": "RGB",
            "resize": "a JPEG of at least twice the size is decoded at a half, a "
            "quarter or an eighth; bilinear to a square, without keeping the aspect "
            "ratio; anti-aliased from three times the size on",
            "exif_orientation": "not applied: turn photographs upright before you send "
            "them, as the preparation did and export.client does",
            "transparency": "alpha is dropped, so that hidden colours count: put "
            "transparent pixels on the background before you send them, as the "
            "preparation did and export.client does",
            "background": form.background,
            "sample_bits": form.sample_bits or 16,
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
    files.write_text(version_dir / PAGE_FILE, render_page(card))
