"""Writes the files of a finished run that nobody trained."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.evaluation.predictions import write_predictions

CONFIDENCE = 0.8


def write_finished_run(
    path: pathlib.Path,
    *,
    labels: Mapping[str, str],
    predicted: Mapping[str, str],
    classes: Sequence[str],
    config: Mapping[str, object] | None = None,
) -> str:
    """Writes config.json, summary.json and test_predictions.csv; returns the path.

    labels, predicted: name of a photograph -> class. Each predicted class has a
      probability of 0.8, and the others share the rest.
    """
    path.mkdir(parents=True)
    names = list(labels)
    label_ids = np.array([classes.index(labels[name]) for name in names])
    predicted_ids = np.array([classes.index(predicted[name]) for name in names])
    rest = (1 - CONFIDENCE) / (len(classes) - 1)
    probabilities = np.full((len(names), len(classes)), rest)
    probabilities[np.arange(len(names)), predicted_ids] = CONFIDENCE
    write_predictions(
        path / "test_predictions.csv", names, label_ids, probabilities, classes
    )
    test = {
        "count": len(names),
        "accuracy": float((label_ids == predicted_ids).mean()),
    }
    summary = {"classes": list(classes), "test": test}
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "config.json").write_text(json.dumps(config or {"flags": {}}))
    return str(path)
