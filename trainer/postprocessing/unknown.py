"""Scores how unlike the training images an image is, to answer "none of these".

The score is ViM (Wang et al., 2022, "ViM: Out-Of-Distribution with Virtual-logit
Matching"): how much of the pooled features lies outside the space in which those of the
training images vary, less the log-sum-exp of the logits. What training images of the
predicted class have on average is subtracted, because classes differ in it.
docs/decisions/0052-unknown-score.md compares it with other scores.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from scipy import special

# More training images of a class do not make the score better.
_FIT_IMAGES_PER_CLASS = 50
_MIN_FIT_IMAGES = 250
_MAX_FIT_IMAGES = 1000

_EXPLAINED_VARIANCE = 0.9
# Of the distance to the mean. The distance to the axes is about a third of it.
_SMALLEST_DISTANCE = 0.01
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class UnknownScorer:
    """The constants of the unknown score.

    mean: float32 [D], the mean embedding of the training images.
    axes: float32 [A, D], orthonormal; they explain 90 % of the variance.
    weight: factor of the distance between an embedding and the space of these axes.
    class_scores: float32 [K], the mean of ViM over training images that are predicted
      as the class.
    """

    mean: np.ndarray
    axes: np.ndarray
    weight: float
    class_scores: np.ndarray


def count_fit_images(num_classes: int) -> int:
    """Returns the number of training images that a scorer is fitted to, at most."""
    wanted = max(_MIN_FIT_IMAGES, _FIT_IMAGES_PER_CLASS * num_classes)
    return min(_MAX_FIT_IMAGES, wanted)


def choose_fit_images(labels: np.ndarray, max_images: int) -> np.ndarray:
    """Chooses the training images of a scorer, equally many of each class if possible.

    Args:
      labels: int [N], in stored order, which is a random order.
      max_images: the largest number of images; a class has one image in any case.

    Returns:
      Sorted positions, int64 [M].
    """
    class_ids, counts = np.unique(labels, return_counts=True)
    per_class, left = 1, max_images
    # The larger classes get the places that small classes cannot fill.
    for position, count in enumerate(np.sort(counts)):
        per_class = max(1, left // (len(counts) - position))
        left -= min(per_class, count)
    positions = [np.flatnonzero(labels == k)[:per_class] for k in class_ids]
    return np.sort(np.concatenate(positions))


def fit_scorer(embeddings: np.ndarray, logits: np.ndarray) -> UnknownScorer:
    """Fits the unknown score to training images.

    Args:
      embeddings: float32 [M, D]. logits: float32 [M, K].
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    centred = embeddings - mean
    _, singular_values, axes = np.linalg.svd(centred, full_matrices=False)
    explained = np.cumsum(singular_values**2)
    count = int(np.searchsorted(explained, _EXPLAINED_VARIANCE * explained[-1])) + 1
    axes = axes[:count]
    distances = np.linalg.norm(centred - centred @ axes.T @ axes, axis=1)
    # Both terms of the score then have the same size on the training images. Two images
    # have no distance but that of rounding, which must not decide the weight.
    smallest = _SMALLEST_DISTANCE * np.linalg.norm(centred, axis=1).mean()
    weight = float(logits.max(axis=1).mean() / max(distances.mean(), smallest, 1e-6))
    scores = weight * distances - special.logsumexp(logits.astype(np.float64), axis=1)
    predicted = logits.argmax(axis=1)
    counts = np.bincount(predicted, minlength=logits.shape[1])
    sums = np.bincount(predicted, weights=scores, minlength=logits.shape[1])
    # A class that is never predicted has the mean of all.
    class_scores = np.where(counts, sums / np.maximum(counts, 1), scores.mean())
    return UnknownScorer(
        mean=mean.astype(np.float32),
        axes=axes.astype(np.float32),
        weight=weight,
        class_scores=class_scores.astype(np.float32),
    )


def compute_unknown_score(
    scorer: UnknownScorer, embedding: tf.Tensor, logits: tf.Tensor
) -> tf.Tensor:
    """Computes the unknown score, which is low for an image like the training images.

    Args:
      embedding: float [n, D]. logits: float [n, K].

    Returns:
      float32 [n].
    """
    centred = tf.cast(embedding, tf.float32) - scorer.mean
    explained = tf.matmul(
        tf.matmul(centred, scorer.axes, transpose_b=True), scorer.axes
    )
    distance = tf.norm(centred - explained, axis=1)
    logits = tf.cast(logits, tf.float32)
    # Not tf.reduce_logsumexp, which puts an operation of training into the graph.
    largest = tf.reduce_max(logits, axis=1, keepdims=True)
    energy = largest[:, 0] + tf.math.log(
        tf.reduce_sum(tf.exp(logits - largest), axis=1)
    )
    of_class = tf.gather(scorer.class_scores, tf.argmax(logits, axis=1))
    return scorer.weight * distance - energy - of_class


def fit_threshold(scores: np.ndarray, rate: float) -> float:
    """Returns the score above which an image is called unknown.

    Of all images like those of validation, at most the share `rate` has a higher score,
    on average. If the validation images are too few for that, the threshold is their
    highest score.

    Args:
      scores: float32 [N], of validation.
      rate: range [0, 1).
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate) - _ROUNDING)
    return float(np.sort(scores)[min(rank, len(scores)) - 1])
