"""Turns the logits and the embedding of an image into what a server replies."""

import dataclasses
import json
import pathlib

import numpy as np
import tensorflow as tf
from scipy import special

from pipeline.system import files
from trainer.postprocessing.calibration import fit_temperature
from trainer.postprocessing.prediction_sets import fit_min_probability
from trainer.postprocessing.unknown import (
    UnknownScorer,
    compute_unknown_score,
    fit_threshold,
)

FORMAT = 3
FILE = "postprocessing.npz"


@dataclasses.dataclass(frozen=True)
class Postprocessing:
    """The constants of a reply; all but the scorer are fitted on validation.

    temperature: logits are divided by it before softmax.
    coverage: the share of prediction sets that must hold the true class.
    min_set_probability: a class with at least this probability is in the set; the
      likeliest class is in any case.
    scorer: scores how unlike the training images an image is.
    unknown_rate: the share of images of known classes that may be called unknown.
    unknown_threshold: an image is unknown if its score is higher.
    val_count: number of validation images.
    """

    temperature: float
    coverage: float
    min_set_probability: float
    scorer: UnknownScorer
    unknown_rate: float
    unknown_threshold: float
    val_count: int


def fit_postprocessing(
    logits: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    scorer: UnknownScorer,
    calibrated: bool,
    coverage: float,
    unknown_rate: float,
) -> Postprocessing:
    """Fits the constants of a reply on the validation split.

    Args:
      logits: float32 [N, K]. scores: float32 [N], unknown scores. labels: int [N].
      scorer: the one that computed the scores.
      calibrated: fit a temperature; False leaves it at 1.
      coverage, unknown_rate: see Postprocessing.
    """
    temperature = fit_temperature(logits, labels) if calibrated else 1.0
    probabilities = special.softmax(logits.astype(np.float64) / temperature, axis=1)
    return Postprocessing(
        temperature=temperature,
        coverage=coverage,
        min_set_probability=fit_min_probability(probabilities, labels, coverage),
        scorer=scorer,
        unknown_rate=unknown_rate,
        unknown_threshold=fit_threshold(scores, unknown_rate),
        val_count=len(labels),
    )


def make_reply(
    postprocessing: Postprocessing, logits: tf.Tensor, embedding: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Makes the numbers of a reply.

    Args:
      logits: float [n, K]. embedding: float [n, D], the pooled features.

    Returns:
      probabilities float32 [n, K], range [0, 1], calibrated;
      in_set bool [n, K], whether a class is in the prediction set;
      unknown_score float32 [n]; is_unknown bool [n].
    """
    logits = tf.cast(logits, tf.float32)
    probabilities = tf.nn.softmax(logits / postprocessing.temperature)
    is_likeliest = tf.one_hot(
        tf.argmax(probabilities, axis=1),
        probabilities.shape[1],
        on_value=True,
        off_value=False,
    )
    score = compute_unknown_score(postprocessing.scorer, embedding, logits)
    return {
        "probabilities": probabilities,
        "in_set": (probabilities >= postprocessing.min_set_probability) | is_likeliest,
        "unknown_score": score,
        "is_unknown": score > postprocessing.unknown_threshold,
    }


def write(path: pathlib.Path, postprocessing: Postprocessing) -> None:
    """Writes the constants of a reply; the file appears whole or not at all."""
    numbers = {"format": FORMAT} | dataclasses.asdict(postprocessing)
    scorer = numbers.pop("scorer")
    with files.write_aside(path) as partial:
        np.savez(partial, numbers=json.dumps(numbers), **scorer)


def read(path: pathlib.Path) -> Postprocessing:
    """Reads the constants of a reply from a file that write() wrote.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file has another format.
    """
    with np.load(path) as stored:
        arrays = dict(stored)
    numbers = json.loads(str(arrays.pop("numbers")))
    file_format = numbers.pop("format")
    if file_format > FORMAT:
        raise ValueError(
            f"This version reads {path.name} up to format {FORMAT}. Received: {path}; "
            "use a newer version of this project."
        )
    if file_format < FORMAT:
        raise ValueError(
            f"The unknown score changed since {path.name} of format {file_format}. "
            f"Received: {path}; delete this file and give the command that trained the "
            "run again, which only evaluates and exports it."
        )
    weight = float(arrays.pop("weight"))
    return Postprocessing(scorer=UnknownScorer(weight=weight, **arrays), **numbers)
