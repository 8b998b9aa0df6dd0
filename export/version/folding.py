"""Folds batch norm into the convolutions and compares the probabilities."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline import decoding
from trainer.models.batch_norm_folding import fold_batch_norm
from trainer.models.classifier import (
    Classifier,
    assemble,
    compute_embedding,
    compute_head,
)
from trainer.postprocessing.postprocessing import Postprocessing, make_reply

_TOLERANCE = 1e-5
_BATCH_SIZE = 32


def fold_and_compare(
    trained: Classifier,
    postprocessing: Postprocessing,
    images: Sequence[bytes],
    *,
    image_size: int,
) -> tuple[Classifier, dict[str, np.ndarray]]:
    """Folds batch norm, unless that changes a probability by more than rounding.

    Prints what changed.

    Args:
      postprocessing: makes the probabilities.
      images: encoded images to compare the probabilities on.
      image_size: side of the square images that the classifier takes, in pixels.

    Returns:
      The folded classifier, or `trained` itself if folding changes too much; and the
      replies of `trained`, see predict_replies().
    """
    folded = fold_batch_norm(trained.backbone)
    classifier = with_backbone(trained, folded.model)
    before, after = (
        predict_replies(variant, postprocessing, images, image_size=image_size)
        for variant in (trained, classifier)
    )
    change = float(np.abs(before["probabilities"] - after["probabilities"]).max())
    if not change <= _TOLERANCE:
        print(
            "batch norm is not folded: folding would change a probability by "
            f"{change:.1e} (allowed: {_TOLERANCE})"
        )
        return trained, before
    if folded.folded or folded.kept:
        unfolded = f"; {len(folded.kept)} follow no convolution and remain"
        print(
            f"{folded.folded} batch norms folded into convolutions (a probability "
            f"changes by {change:.1e} at most){unfolded if folded.kept else ''}"
        )
    return classifier, before


def with_backbone(classifier: Classifier, backbone: keras.Model) -> Classifier:
    """Replaces the backbone; the head stays in float32 in any case."""
    return assemble(classifier.normalise, backbone, classifier.head)


def predict_replies(
    classifier: Classifier,
    postprocessing: Postprocessing,
    images: Sequence[bytes],
    *,
    image_size: int,
) -> dict[str, np.ndarray]:
    """Predicts encoded images in a graph, as the evaluation of the training does.

    In a graph TensorFlow fuses layers, which rounds differently from one layer after
    the other.

    Returns:
      The arrays of make_reply(), for N images.
    """

    @tf.function(autograph=False)
    def predict(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding = compute_embedding(classifier, pixels)
        logits = compute_head(classifier, embedding)
        return make_reply(postprocessing, logits, embedding)

    pixels = [
        decoding.decode_and_resize(tf.constant(image_bytes), image_size)
        for image_bytes in images
    ]
    replies = [
        predict(tf.stack(pixels[start : start + _BATCH_SIZE]))
        for start in range(0, len(pixels), _BATCH_SIZE)
    ]
    return {
        name: np.concatenate([reply[name].numpy() for reply in replies])
        for name in replies[0]
    }
