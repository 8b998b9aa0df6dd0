"""What a run keeps: where it is, the best weights, and the model made of them."""

import dataclasses
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


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


def checkpoints_dir(model_dir: pathlib.Path) -> pathlib.Path:
    return model_dir / "checkpoints"


def checkpoint_path(model_dir: pathlib.Path, total_steps: int) -> pathlib.Path:
    """Where the checkpoint after so many steps of the run lies."""
    return checkpoints_dir(model_dir) / f"step-{total_steps:010d}.npz"


def list_checkpoints(model_dir: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints of a run, newest first."""
    return sorted(checkpoints_dir(model_dir).glob("step-*.npz"), reverse=True)


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
