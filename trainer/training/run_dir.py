"""Reads and writes the files of a run directory, and locks it.

docs/reference/files.md describes the formats of the files.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import cast

from pipeline.system import files
from trainer.config.run_files import CONFIG_FILE, METRICS_FILE, SUMMARY_FILE
from trainer.config.stored_config import config_from_json
from trainer.config.train_config import TrainConfig
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.learning_curve import LearningCurve, make_empty_curve
from trainer.models import backbones
from trainer.models.classifier import Classifier, build_classifier, dtype_policy
from trainer.training import checkpoints
from trainer.training.run_config import read_config

# HDF5 writes about this number of bytes in addition to the weights.
_BYTES_BESIDE_WEIGHTS = 1 << 20


def write_metrics(model_dir: pathlib.Path, history: Sequence[EpochMetrics]) -> None:
    """Writes metrics.jsonl, one line for each complete epoch."""
    lines = [json.dumps(line) + "\n" for line in history]
    files.write_text(model_dir / METRICS_FILE, "".join(lines))


def learning_curve_path(model_dir: pathlib.Path) -> pathlib.Path:
    """Returns the path of the learning curve, which a run with a solved head has."""
    return checkpoints.checkpoints_dir(model_dir) / "learning_curve.json"


def read_learning_curve(model_dir: pathlib.Path) -> LearningCurve:
    """Reads the learning curve; returns an empty one if the run has no such file."""
    path = learning_curve_path(model_dir)
    if not path.is_file():
        return make_empty_curve(
            "No learning curve: this run measured none; --head_start=logistic does."
        )
    return cast(LearningCurve, json.loads(path.read_text()))


def best_weights_path(model_dir: pathlib.Path, regime: str) -> pathlib.Path:
    """Returns the path of a regime's best weights, which exists after the regime."""
    return checkpoints.checkpoints_dir(model_dir) / f"{regime}.best.weights.h5"


def save_best_weights(
    classifier: Classifier, model_dir: pathlib.Path, regime: str
) -> None:
    """Saves the weights as the best of a regime, whole or not at all.

    Raises:
      OSError: the disk has no room. The room is checked first, because h5py ends the
        process on a full disk.
    """
    path = best_weights_path(model_dir, regime)
    path.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = sum(weight.numpy().nbytes for weight in classifier.model.weights)
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < num_bytes + _BYTES_BESIDE_WEIGHTS:
        raise OSError(
            f"The weights take {num_bytes / 1e6:.3g} MB, and the disk has "
            f"{free_bytes / 1e6:.3g} MB left. Received: --model_dir={model_dir}; make "
            "room, and the same command continues."
        )
    with files.write_aside(path) as partial:
        classifier.model.save_weights(partial)


def read_run(model_dir: pathlib.Path) -> tuple[TrainConfig, tuple[str, ...], str]:
    """Reads the config, the classes and the name of the best regime of a finished run.

    Raises:
      ValueError: model_dir holds no finished run.
    """
    for name in (CONFIG_FILE, SUMMARY_FILE):
        if not (model_dir / name).is_file():
            raise ValueError(
                "--model_dir must be the directory of a finished run of trainer.main. "
                f"Received: --model_dir={model_dir}, which has no {name}. Check the "
                "path, or repeat the trainer.main command to finish the run."
            )
    stored = read_config(model_dir)
    flags = stored["flags"] | stored.get("search", {}).get("chosen", {})
    summary = json.loads((model_dir / SUMMARY_FILE).read_text())
    return (
        config_from_json(flags),
        tuple(summary["classes"]),
        summary["best_regime"],
    )


def record_export(model_dir: pathlib.Path, version_dir: str) -> None:
    """Adds the path of the newest export to summary.json."""
    path = model_dir / SUMMARY_FILE
    files.write_json(path, json.loads(path.read_text()) | {"export": version_dir})


def restore_classifier(
    config: TrainConfig, classes: Sequence[str], model_dir: pathlib.Path, regime: str
) -> Classifier:
    """Builds the classifier of a run in float32, with the best weights of a regime.

    The final evaluation and the export both use it, so the model that is measured is
    the model that is served.
    """
    with dtype_policy("float32"):
        backbone = backbones.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        classifier = build_classifier(
            backbone,
            config.backbone,
            num_classes=len(classes),
            head=config.head,
        )
    backbones.load_weights(classifier.model, str(best_weights_path(model_dir, regime)))
    return classifier


@contextlib.contextmanager
def lock_run_dir(model_dir: pathlib.Path) -> Iterator[None]:
    """Locks a run directory, so that only one process trains into it.

    It also removes the partial files of a process that was killed.

    Raises:
      ValueError: another process holds the lock.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    with files.lock(model_dir) as is_ours:
        if not is_ours:
            raise ValueError(
                "Another process trains into this directory. Received: --model_dir="
                f"{model_dir}; wait for it, or name another."
            )
        for folder in (model_dir, checkpoints.checkpoints_dir(model_dir)):
            for partial in folder.glob(".tmp-*"):
                partial.unlink(missing_ok=True)
        yield


def remove_failed_run(model_dir: pathlib.Path, *, remove_directory: bool) -> None:
    """Removes everything of a run but its prepared data, which can be used again.

    remove_directory: also remove the directory if it is empty then.
    """
    for path in model_dir.iterdir():
        if path.is_dir() and path.name != "data":
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)
    if remove_directory:
        with contextlib.suppress(OSError):  # It is not empty.
            model_dir.rmdir()


def check_unused(model_dir: pathlib.Path, config: TrainConfig) -> None:
    """Checks that a new run can use this directory.

    A directory that holds only data which an interrupted run prepared from the same
    source can be used.

    Raises:
      ValueError: the directory holds something else.
    """
    if not os.path.lexists(model_dir):
        return
    if not model_dir.is_dir() or any(
        not path.name.startswith((".data.tmp-", ".tmp-"))
        and not (path.name == "data" and _is_prepared_from(path, config))
        for path in model_dir.iterdir()
    ):
        raise ValueError(
            "--model_dir must be new, empty or a run to continue. Received: "
            f"--model_dir={model_dir}, which holds something else. Name another "
            "directory."
        )


def _is_prepared_from(data_dir: pathlib.Path, config: TrainConfig) -> bool:
    try:
        settings = json.loads((data_dir / "audit.json").read_text())["settings"]
    except (OSError, ValueError, KeyError):
        return False
    # Versions without --corrections did not write this key.
    prepared_from = (settings["source"], settings["seed"], settings.get("corrections"))
    return prepared_from == (config.source, config.seed, None)
