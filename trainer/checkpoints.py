"""What a run keeps: where it is, the best weights, and the model made of them."""

import dataclasses
import io
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline import files
from trainer import model
from trainer.config import MAY_CHANGE, TrainConfig
from trainer.model import Classifier
from trainer.runtime import Runtime

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"

# What HDF5 writes besides.
_ROOM_BESIDE_WEIGHTS_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a run has come; all of its state but the variables.

    regime: index of the regime it is in.
    epoch: epochs of that regime that are complete, evaluation included.
    step: steps of the epoch after those that are done.
    loss_sum, correct_sum: over the examples of these steps.
    seconds, waited_seconds: that these steps took, and waited for input.
    total_steps: steps of the whole run that are done.
    best: validation accuracy and minus the loss of the regime's best weights.
    history: the lines of metrics.jsonl.
    """

    regime: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    total_steps: int = 0
    best: tuple[float, float] = (-1.0, 0.0)
    history: tuple[dict, ...] = ()


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A position with the variables that go with it.

    variables, optimizer: values in the order of the model's and optimizer's variables.
    best: the best weights of the regime, in the order of model.list_unfrozen().
    """

    position: Position
    variables: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]


def capture(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """The values of variables, as they are now.

    A variable whose replicas differ (batch norm statistics that XLA rounded) is
    captured as [replicas, ...] with the flag that restore_variables looks for.
    """
    captured = []
    for variable in variables:
        replicas = [value.numpy() for value in _replicas(variable)]
        same = all(np.array_equal(replicas[0], other) for other in replicas[1:])
        captured.append(replicas[0] if same else np.stack(replicas))
    return captured


def _replicas(variable: keras.Variable) -> Sequence[tf.Variable]:
    return tf.distribute.get_strategy().experimental_local_results(variable.value)


def restore_variables(
    variables: Sequence[keras.Variable], values: Sequence[np.ndarray]
) -> None:
    """Gives variables the values that capture() took."""
    for variable, value in zip(variables, values, strict=True):
        replicas = _replicas(variable)
        if value.shape == tuple(variable.shape):
            variable.assign(value)
        elif len(value) == len(replicas):
            for replica, own in zip(replicas, value, strict=True):
                replica.assign(own)
        else:  # as many devices as before there are not
            variable.assign(value[0])


def _directory(model_dir: pathlib.Path) -> pathlib.Path:
    return model_dir / "checkpoints"


def checkpoint_path(model_dir: pathlib.Path, total_steps: int) -> pathlib.Path:
    """Where the checkpoint after so many steps of the run lies."""
    return _directory(model_dir) / f"step-{total_steps:010d}.npz"


def list_checkpoints(model_dir: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints of a run, newest first."""
    return sorted(_directory(model_dir).glob("step-*.npz"), reverse=True)


def save(model_dir: pathlib.Path, checkpoint: Checkpoint, *, keep: int) -> None:
    """Writes a checkpoint, whole or not at all, and removes those beyond the newest."""
    arrays = {
        f"{part}/{index}": value
        for part in ("variables", "optimizer", "best")
        for index, value in enumerate(getattr(checkpoint, part))
    }
    position = json.dumps(dataclasses.asdict(checkpoint.position)).encode()
    arrays["position"] = np.frombuffer(position, np.uint8)
    path = checkpoint_path(model_dir, checkpoint.position.total_steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for old in list_checkpoints(model_dir)[keep:]:
        old.unlink(missing_ok=True)


def load(path: pathlib.Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
      ValueError: it is damaged.
    """
    parts = {"variables": [], "optimizer": [], "best": []}
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            position = json.loads(arrays["position"].tobytes())
            for name in arrays.files:
                if name != "position":
                    parts[name.partition("/")[0]].append(arrays[name])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    position["best"] = tuple(position["best"])
    position["history"] = tuple(position["history"])
    return Checkpoint(position=Position(**position), **parts)


def load_newest(model_dir: pathlib.Path) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole; names those that are not.

    Raises:
      ValueError: there are checkpoints, and all are damaged.
    """
    problems = []
    for path in list_checkpoints(model_dir):
        try:
            checkpoint = load(path)
        except ValueError as error:
            problems.append(str(error))
            print(f"WARNING: {error}; taking the one before", flush=True)
            continue
        return checkpoint
    if problems:
        raise ValueError(
            f"No checkpoint of the run can be read. Received: --model_dir={model_dir}: "
            f"{'; '.join(problems)}. Name another directory to start anew."
        )
    return None


def best_path(model_dir: pathlib.Path, regime: str) -> pathlib.Path:
    """Where the best weights of a regime lie, once it is complete."""
    return _directory(model_dir) / f"{regime}.best.weights.h5"


def save_best(classifier: Classifier, model_dir: pathlib.Path, regime: str) -> None:
    """Saves the weights as the regime's best, whole or not at all.

    Raises:
      OSError: there is no room. Not left to h5py, which on a full disk does not close
        its file and takes the process down with it.
    """
    path = best_path(model_dir, regime)
    path.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = sum(weight.numpy().nbytes for weight in classifier.model.weights)
    free = shutil.disk_usage(path.parent).free
    if free < num_bytes + _ROOM_BESIDE_WEIGHTS_BYTES:
        raise OSError(
            f"The weights take {num_bytes / 1e6:.3g} MB, and the disk has "
            f"{free / 1e6:.3g} MB. Received: --model_dir={model_dir}; make room, and "
            "the same command continues."
        )
    partial = path.with_name(f".{regime}.tmp.weights.h5")
    classifier.model.save_weights(partial)
    partial.replace(path)


def write_config(
    model_dir: pathlib.Path,
    settings: TrainConfig,
    run: Runtime,
    **content: object,
) -> None:
    """Writes config.json: every flag, what it came to, and `content`."""
    files.write_json(
        model_dir / CONFIG_FILE,
        {
            "flags": dataclasses.asdict(settings),
            "precision": run.precision,
            "replicas": run.strategy.num_replicas_in_sync,
            **content,
        },
    )


def record_search(model_dir: pathlib.Path, found: dict) -> None:
    """Notes in the run's config what sweep.search_head() found."""
    path = model_dir / CONFIG_FILE
    files.write_json(path, json.loads(path.read_text()) | {"search": found})


def read_search(model_dir: pathlib.Path) -> dict | None:
    """What record_search() noted; None: nothing yet."""
    return json.loads((model_dir / CONFIG_FILE).read_text()).get("search")


def check_same_run(
    model_dir: pathlib.Path, settings: TrainConfig, run: Runtime
) -> dict:
    """Reads the config.json of the run that is to continue.

    Raises:
      ValueError: a flag that matters has another value than it had.
    """
    config = json.loads((model_dir / CONFIG_FILE).read_text())
    before = config["flags"]
    now = json.loads(json.dumps(dataclasses.asdict(settings)))
    for name in sorted(set(now) - MAY_CHANGE):
        if name in before and before[name] != now[name]:
            _refuse(model_dir, name, before[name], now[name])
    if config["precision"] != run.precision:
        _refuse(model_dir, "precision", config["precision"], run.precision)
    return config


def check_same_data(model_dir: pathlib.Path, data: dict) -> None:
    """Compares classes and counts with those that the run began with.

    Raises:
      ValueError: they differ.
    """
    before = json.loads((model_dir / CONFIG_FILE).read_text())["data"]
    if before != data:
        raise ValueError(
            f"The run in --model_dir={model_dir} was started on other data, {before}, "
            f"and can only continue on it. Received: {data}"
        )


def _refuse(model_dir: pathlib.Path, flag: str, before: object, now: object) -> None:
    raise ValueError(
        f"The run in --model_dir={model_dir} was started with --{flag}={before} and "
        f"can only continue with it. Received: --{flag}={now}; name another "
        "--model_dir to start anew."
    )


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
    config = json.loads((model_dir / CONFIG_FILE).read_text())
    flags = config["flags"] | config.get("search", {}).get("chosen", {})
    for name in ("regimes", "profile_steps"):
        flags[name] = tuple(flags[name]) if flags[name] else None
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
    model.load_weights(classifier.model, str(best_path(model_dir, regime)))
    return classifier
