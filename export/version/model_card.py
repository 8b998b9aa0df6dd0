"""What stands beside a version: its labels, and where the model comes from."""

import importlib.metadata
import json
import pathlib
import time
from collections.abc import Sequence

from export.protocol import messages
from pipeline.inspection.formats import DECODABLE_FORMATS, MAX_PIXELS
from pipeline.system import files
from trainer.config.train_config import TrainConfig

_PACKAGES = ("tensorflow", "keras", "tensorflow-serving-api", "numpy")
_NOT_STATED = "not stated: fill in before you pass the model on"


def build_model_card(
    config: TrainConfig,
    summary: dict,
    classes: Sequence[str],
    *,
    regime: str,
    precision: str,
    measured: dict | None,
) -> dict:
    """The content of model_card.json.

    Args:
      summary: of the run; see conclude.conclude.
      regime: whose best weights are served.
      precision: of the served arithmetic.
      measured: accuracy of the float32 and the served model on the test split, where
        they may differ.
    """
    test = summary.get("test", {})
    figures = summary.get(regime, {})
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classes": list(classes),
        "model": {
            "backbone": config.backbone,
            "backbone_args": dict(config.backbone_args),
            "initial_weights": pathlib.Path(config.weights).name,
            "regime": regime,
            "precision": precision,
        },
        "data": _describe_data(config),
        "metrics": {
            "validation": {
                name: figures.get(f"val_{name}")
                for name in ("accuracy", "ci95", "count", "loss")
            },
            "test": {
                name: test.get(name)
                for name in (
                    *("accuracy", "ci95", "count", "loss", "top_2_accuracy", "auc"),
                    *("calibration_error", "per_class", "confusion"),
                )
            },
            "served_precision": measured,
        },
        "preprocessing": {
            "formats": list(DECODABLE_FORMATS),
            "image_size": config.image_size,
            "colour": "RGB",
            "resize": "JPEG of at least twice the size decoded at a half, quarter or "
            "eighth; bilinear to a square, aspect ratio given up; anti-aliased from "
            "three times the size on",
            "exif_orientation": "not applied: turn photographs upright before they are "
            "sent, as preparation did and export.client does",
            "max_pixels": MAX_PIXELS,
        },
        "warmed_up_batch_sizes": list(messages.WARMUP_BATCH_SIZES),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "licence": {
            "model": _NOT_STATED,
            "initial_weights": _NOT_STATED,
            "data": _NOT_STATED,
        },
    }


def _describe_data(config: TrainConfig) -> dict:
    try:
        audit = json.loads(pathlib.Path(config.data_dir, "audit.json").read_text())
    except (OSError, ValueError):
        return {"source": config.source, "images": None}
    splits = ("train", "validation", "test")
    counts = audit["classes"]
    return {
        "source": audit["settings"]["source"],
        "seed": audit["settings"]["seed"],
        "images": {
            split: sum(count[split] for count in counts.values()) for split in splits
        },
        "images_per_class": counts,
        "left_out": audit["findings"],
    }


def write_model_card(version_dir: pathlib.Path, described: dict) -> None:
    """Writes labels.txt, model_card.json and model_card.md."""
    labels = "".join(f"{name}\n" for name in described["classes"])
    files.write_text(version_dir / "labels.txt", labels)
    files.write_json(version_dir / "model_card.json", described)
    files.write_text(version_dir / "model_card.md", _make_page(described))


def _make_page(described: dict) -> str:
    metrics, data, model = (described[k] for k in ("metrics", "data", "model"))
    lines = [
        "# Model card",
        "",
        f"Classifies photographs as {', '.join(described['classes'])}. "
        f"{model['backbone']} ({model['initial_weights']} weights), regime "
        f"`{model['regime']}`, served in {model['precision']}. "
        f"Made {described['created']}.",
        "",
        "## How good it is",
        "",
        "Measured in float32, before it was exported.",
        "",
        "| split | photographs | accuracy | 95 % interval |",
        "|---|---|---|---|",
        *(_accuracy_row(split, metrics[split]) for split in ("validation", "test")),
        "",
    ]
    if metrics["served_precision"]:
        served = metrics["served_precision"]
        lines += [
            f"Served in {model['precision']} it is right on {served['served']:.3f} of "
            f"{served['count']} test photographs, in float32 on "
            f"{served['float32']:.3f}.",
            "",
        ]
    if metrics["test"].get("per_class"):
        lines += [
            "| class | precision | recall | test photographs |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {row['precision']:.3f} | {row['recall']:.3f} | "
            f"{row['count']} |"
            for name, row in metrics["test"]["per_class"].items()
        ]
        lines.append("")
    lines += ["## What it learnt from", "", f"Source: `{data['source']}`.", ""]
    if data["images"]:
        lines += ["| class | train | validation | test |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {count['train']} | {count['validation']} | {count['test']} |"
            for name, count in data["images_per_class"].items()
        ]
        lines += ["", "Near duplicates share a split, so none is tested on.", ""]
    lines += ["## What it expects", ""]
    lines += [f"- {k}: {_plain(v)}" for k, v in described["preprocessing"].items()]
    lines += ["", "## Licences", ""]
    lines += [f"- {k}: {v}" for k, v in described["licence"].items()]
    lines += ["", "## Versions", ""]
    lines += [f"- {name} {version}" for name, version in described["versions"].items()]
    return "\n".join(lines) + "\n"


def _accuracy_row(split: str, figures: dict) -> str:
    if figures["accuracy"] is None:
        return f"| {split} | not measured | | |"
    low, high = figures["ci95"]
    return (
        f"| {split} | {figures['count']} | {figures['accuracy']:.3f} | "
        f"{low:.3f} to {high:.3f} |"
    )


def _plain(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
