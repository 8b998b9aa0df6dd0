"""Makes answers of a model as export.drift_check reads them."""

import numpy as np

from export.drift_check.answers import Answers


def make_answers(
    count: int,
    *,
    seed: int = 0,
    shift: float = 0.0,
    classes: int = 3,
    size: int = 8,
    with_scores: bool = False,
) -> Answers:
    """Random answers; shift moves the embeddings, in standard deviations."""
    rng = np.random.default_rng(seed)
    probabilities = make_probabilities(
        rng.integers(0, classes, count), rng.uniform(0.4, 1, count), classes
    )
    return Answers(
        embeddings=rng.normal(shift, 1, (count, size)).astype(np.float32),
        probabilities=probabilities,
        unknown_scores=rng.normal(0, 1, count).astype(np.float32)
        if with_scores
        else None,
        measures=rng.uniform(0, 1, (count, 4)).astype(np.float32),
        hashes=rng.integers(0, 2, (count, 256)).astype(bool),
        decoded=np.ones(count, bool),
    )


def make_probabilities(
    class_ids: np.ndarray, confidences: np.ndarray, classes: int
) -> np.ndarray:
    """Probabilities with these predicted classes; the others share the rest."""
    rest = (1 - confidences) / (classes - 1)
    probabilities = np.repeat(rest[:, np.newaxis], classes, axis=1)
    probabilities[np.arange(len(class_ids)), class_ids] = confidences
    return probabilities.astype(np.float32)
