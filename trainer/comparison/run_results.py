"""Reads from a run directory what a comparison needs, without TensorFlow."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.config.run_files import (
    CONFIG_FILE,
    CONFIG_FORMAT,
    PREDICTIONS_FILE,
    SUMMARY_FILE,
)
from trainer.evaluation.predictions import read_predictions

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclasses.dataclass(frozen=True)
class RunResults:
    """A finished run and its predictions for N test photographs.

    letter: the name of the run in the comparison.
    path: its directory, as the user named it.
    classes: the K names.
    names: of the photographs.
    labels, predicted: int [N], indices into classes.
    probabilities: float64 [N, K].
    positions: int [N], where the photographs are in the stored test split.
    config: content of config.json; see trainer.training.run_config.RunConfig.
    """

    letter: str
    path: pathlib.Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    positions: np.ndarray
    config: dict[str, Any]

    @property
    def is_right(self) -> np.ndarray:
        """bool [N]: which photographs get their label."""
        return self.predicted == self.labels


def read_runs(paths: Sequence[str]) -> list[RunResults]:
    """Reads two or more runs; the first is A, the second B.

    Raises:
      ValueError: fewer than two runs, too many, the same twice, or one that is not
        finished or is damaged.
    """
    if not 2 <= len(paths) <= len(_LETTERS):
        raise ValueError(
            f"Name two to {len(_LETTERS)} directories of finished runs, such as RUN_A "
            f"RUN_B. Received: {' '.join(paths) or 'none'}"
        )
    run_of_path: dict[pathlib.Path, str] = {}
    for path in paths:
        resolved = pathlib.Path(path).resolve()
        if resolved in run_of_path:
            raise ValueError(
                "Each run must be another directory. Received: "
                f"{run_of_path[resolved]!r} and {path!r}, which are the same; name two "
                "runs."
            )
        run_of_path[resolved] = path
    return [
        _read_run(letter, pathlib.Path(path))
        for letter, path in zip(_LETTERS, paths, strict=False)
    ]


def _read_run(letter: str, path: pathlib.Path) -> RunResults:
    _check_is_finished(path)
    summary = _read_json(path / SUMMARY_FILE)
    config = _read_json(path / CONFIG_FILE)
    if config.get("format", 1) > CONFIG_FORMAT:
        raise ValueError(
            f"{CONFIG_FILE} has format {config['format']}, and this version reads "
            f"formats up to {CONFIG_FORMAT}. Received: {str(path)!r}; use a newer "
            "version of this project."
        )
    for name in ("flags", "data"):
        if not isinstance(config.get(name, {}), dict):
            raise _damaged(path / CONFIG_FILE, f"{name!r} that is no object")
    try:
        classes = tuple(str(name) for name in summary["classes"])
        count, accuracy = int(summary["test"]["count"]), summary["test"]["accuracy"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path / SUMMARY_FILE, repr(error)) from error
    predictions = read_predictions(path / PREDICTIONS_FILE, classes)
    right = int((predictions.predicted == predictions.labels).sum())
    if len(predictions.names) != count or not math.isclose(
        right, accuracy * count, abs_tol=1e-3
    ):
        raise _damaged(
            path / PREDICTIONS_FILE,
            f"{len(predictions.names)} photographs, {right} of them right, while "
            f"{SUMMARY_FILE} has {count} and {accuracy * count:.0f}",
        )
    if count < 2:
        raise ValueError(
            "A comparison needs at least two test photographs. Received: "
            f"{str(path)!r}, which has {count}; add photographs and train again."
        )
    return RunResults(
        letter=letter,
        path=path,
        classes=classes,
        names=predictions.names,
        labels=predictions.labels,
        predicted=predictions.predicted,
        probabilities=predictions.probabilities,
        positions=np.arange(count),
        config=config,
    )


def _check_is_finished(path: pathlib.Path) -> None:
    if not path.is_dir():
        problem = "is not a directory" if path.exists() else "does not exist"
        raise ValueError(
            "A run is a directory that trainer.main wrote, its --model_dir. Received: "
            f"{str(path)!r}, which {problem}."
        )
    if not (path / CONFIG_FILE).is_file():
        raise ValueError(
            "A run is a directory that trainer.main wrote, its --model_dir. Received: "
            f"{str(path)!r}, which has no {CONFIG_FILE}."
        )
    if not (path / SUMMARY_FILE).is_file():
        raise ValueError(
            f"A run is finished when it has {SUMMARY_FILE}. Received: {str(path)!r}, "
            "which has none; repeat its trainer.main command to continue it."
        )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # Wrong UTF-8 and JSON are ValueErrors.
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"a {type(content).__name__}")
    return content


def _damaged(path: pathlib.Path, problem: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} is damaged. Received: {problem}; restore the file, or "
        "train again."
    )
