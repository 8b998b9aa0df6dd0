"""Saves and loads the state of a run: one file with its own format number."""

import dataclasses
import io
import json
import pathlib
import zipfile
from collections.abc import Sequence
from concurrent import futures

import keras
import numpy as np
import tensorflow as tf

from pipeline.system import files
from trainer.training.position import Position

# A file without a format number has format 1, which also holds the best figures on
# validation.
CHECKPOINT_FORMAT = 2


class UnknownFormatError(ValueError):
    """A checkpoint of a later version of this program."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A position and the variables that belong to it.

    variables, optimizer: values in the order of the variables of model and optimizer.
    best_weights: the best weights of the regime, in the order of
      freezing.list_unfrozen(); empty until an epoch is complete.
    """

    position: Position
    variables: list[np.ndarray]
    optimizer: list[np.ndarray]
    best_weights: list[np.ndarray]


# Part of the name of each array in the file -> field of Checkpoint.
_FIELD_OF_PART = {
    "variables": "variables",
    "optimizer": "optimizer",
    "best": "best_weights",
}


def capture(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Copies the current values of variables.

    The value has the shape of the variable. If the replicas of a variable differ (batch
    norm statistics that XLA rounded), the value is [replicas, ...].
    """
    values = []
    for variable in variables:
        replicas = [value.numpy() for value in _list_replicas(variable)]
        is_equal = all(np.array_equal(replicas[0], other) for other in replicas[1:])
        values.append(replicas[0] if is_equal else np.stack(replicas))
    return values


def _list_replicas(variable: keras.Variable) -> Sequence[tf.Variable]:
    return tf.distribute.get_strategy().experimental_local_results(variable.value)


def restore_variables(
    variables: Sequence[keras.Variable], values: Sequence[np.ndarray]
) -> None:
    """Assigns the values that capture() returned.

    values: in the order of the variables. If the number of replicas has changed since,
      every replica gets the value of the first.
    """
    for variable, value in zip(variables, values, strict=True):
        replicas = _list_replicas(variable)
        if value.shape == tuple(variable.shape):
            variable.assign(value)
        elif len(value) == len(replicas):
            for replica, replica_value in zip(replicas, value, strict=True):
                replica.assign(replica_value)
        else:  # The number of replicas has changed: use the value of the first.
            variable.assign(value[0])


def checkpoints_dir(model_dir: pathlib.Path) -> pathlib.Path:
    """Returns the directory of a run's checkpoints and best weights."""
    return model_dir / "checkpoints"


def checkpoint_path(model_dir: pathlib.Path, total_steps: int) -> pathlib.Path:
    """Returns the path of the checkpoint after total_steps steps of the run."""
    return checkpoints_dir(model_dir) / f"step-{total_steps:010d}.npz"


def list_checkpoints(model_dir: pathlib.Path) -> list[pathlib.Path]:
    """Lists the checkpoints of a run, the newest first."""
    return sorted(checkpoints_dir(model_dir).glob("step-*.npz"), reverse=True)


def save(model_dir: pathlib.Path, checkpoint: Checkpoint, *, keep: int) -> None:
    """Writes a checkpoint, whole or not at all, and keeps only the newest `keep`."""
    arrays = {
        f"{part}/{index}": value
        for part, field in _FIELD_OF_PART.items()
        for index, value in enumerate(getattr(checkpoint, field))
    }
    state = dataclasses.asdict(checkpoint.position) | {"format": CHECKPOINT_FORMAT}
    arrays["position"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    path = checkpoint_path(model_dir, checkpoint.position.total_steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.write_aside(path, sync=True) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)
    for old in list_checkpoints(model_dir)[keep:]:
        old.unlink(missing_ok=True)


class CheckpointWriter:
    """Writes checkpoints one after the other, each while the training goes on."""

    def __init__(self) -> None:
        """Starts the thread that writes; it writes nothing yet."""
        self._thread = futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: futures.Future | None = None

    def save(
        self, model_dir: pathlib.Path, checkpoint: Checkpoint, *, keep: int
    ) -> None:
        """Waits for the previous checkpoint, then starts to write this one; see save().

        Raises:
          OSError: the previous checkpoint could not be written.
        """
        self.wait()
        self._pending = self._thread.submit(save, model_dir, checkpoint, keep=keep)

    def wait(self) -> None:
        """Waits until the last checkpoint is complete.

        Raises:
          OSError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits until the last checkpoint is complete, and ends the thread.

        Raises:
          OSError: the checkpoint could not be written.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def load(path: pathlib.Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
      UnknownFormatError: a later version of this program wrote it.
      ValueError: it is damaged.
    """
    parts: dict[str, list[np.ndarray]] = {part: [] for part in _FIELD_OF_PART}
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            state = json.loads(arrays["position"].tobytes())
            for name in arrays.files:
                if name != "position":
                    parts[name.partition("/")[0]].append(arrays[name])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    file_format = state.pop("format", 1)
    if file_format > CHECKPOINT_FORMAT:
        raise UnknownFormatError(
            f"The checkpoint has format {file_format}, and this version reads formats "
            f"up to {CHECKPOINT_FORMAT}. Received: {path}; use a newer version of "
            "this project."
        )
    state.pop("best", None)  # Only format 1 has it; the history holds the same.
    state["history"] = tuple(state["history"])
    fields = {field: parts[part] for part, field in _FIELD_OF_PART.items()}
    return Checkpoint(position=Position(**state), **fields)


def load_newest(model_dir: pathlib.Path) -> Checkpoint | None:
    """Reads the newest intact checkpoint; prints the names of damaged ones.

    Raises:
      UnknownFormatError: see load.
      ValueError: there are checkpoints, and all are damaged.
    """
    problems = []
    for path in list_checkpoints(model_dir):
        try:
            return load(path)
        except UnknownFormatError:
            raise
        except ValueError as error:
            problems.append(str(error))
            print(f"WARNING: {error}; trying the one before", flush=True)
    if problems:
        raise ValueError(
            f"No checkpoint of the run can be read. Received: --model_dir={model_dir}: "
            f"{'; '.join(problems)}. Name another directory to start a new run."
        )
    return None
