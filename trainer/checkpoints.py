"""What a run keeps: the best weights of each regime, and the model made of them."""

import json
import pathlib

from pipeline import files
from trainer import model
from trainer.config import TrainConfig
from trainer.model import Classifier

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"


def best_path(model_dir: pathlib.Path, regime: str) -> pathlib.Path:
    """Where the best weights of a regime lie."""
    return model_dir / "checkpoints" / f"{regime}.best.weights.h5"


def save_best(classifier: Classifier, model_dir: pathlib.Path, regime: str) -> None:
    """Saves the weights as the regime's best; the file is replaced whole."""
    path = best_path(model_dir, regime)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{regime}.tmp.weights.h5")
    classifier.model.save_weights(partial)
    partial.replace(path)


def load_best(classifier: Classifier, model_dir: pathlib.Path, regime: str) -> None:
    """Loads what save_best saved into a classifier of the same shape."""
    model.load_weights(classifier.model, str(best_path(model_dir, regime)))


def read_run(model_dir: pathlib.Path) -> tuple[TrainConfig, tuple[str, ...], str]:
    """Reads a finished run: its config, its classes and its best regime.

    Raises:
      ValueError: no finished run there.
    """
    for name in (CONFIG_FILE, SUMMARY_FILE):
        if not (model_dir / name).is_file():
            raise ValueError(
                "--model_dir must be the directory of a finished run of trainer.main. "
                f"Received: --model_dir={model_dir}, which has no {name}."
            )
    flags = json.loads((model_dir / CONFIG_FILE).read_text())["flags"]
    flags["regimes"] = tuple(flags["regimes"])
    summary = json.loads((model_dir / SUMMARY_FILE).read_text())
    return TrainConfig(**flags), tuple(summary["classes"]), summary["best_regime"]


def record_export(model_dir: pathlib.Path, version_dir: str) -> None:
    """Notes the newest export in the run's summary."""
    path = model_dir / SUMMARY_FILE
    files.write_json(path, json.loads(path.read_text()) | {"export": version_dir})


def restore(
    config: TrainConfig, classes: tuple[str, ...], model_dir: pathlib.Path, regime: str
) -> Classifier:
    """Builds a run's classifier again, in float32, with a regime's best weights.

    The final evaluation and the export both use it: what is measured is what is served.
    """
    with model.dtype_policy("float32"):
        backbone = model.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        classifier = model.build_classifier(
            backbone,
            config.backbone,
            num_classes=len(classes),
            pooling=config.pooling,
            head_units=config.head_units,
            dropout=config.dropout,
        )
    load_best(classifier, model_dir, regime)
    return classifier
