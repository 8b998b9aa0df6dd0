"""Computes where a classifier looks in an image, from the output of its backbone."""

import tensorflow as tf

from trainer.models.classifier import Classifier, compute_head, pool_features


def compute_heat(classifier: Classifier, features: tf.Tensor) -> tf.Tensor:
    """Computes how much each place of an image raises the logit of the predicted class.

    The method is Grad-CAM (Selvaraju et al., 2017). It differentiates only the head, so
    it takes little time beside the backbone.

    Args:
      features: float [B, h, w, C], the output of the backbone.

    Returns:
      The dtype of features, [B, h, w], at least 0.
    """
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = compute_head(classifier, pool_features(classifier, features))
        top = tf.reduce_max(logits, axis=1)
    weights = tf.reduce_mean(tape.gradient(top, features), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))


def find_centre(heat: tf.Tensor) -> tf.Tensor:
    """Returns the centre of mass of each map.

    Args:
      heat: float [B, h, w], at least 0.

    Returns:
      float32 [B, 2], y and x, range (-1, 1) from one edge of the frame to the other; 0
      for a map of zeros.
    """
    heat = tf.cast(heat, tf.float32)
    mass = tf.reduce_sum(heat, axis=(1, 2))
    centre = []
    for axis, other in ((1, 2), (2, 1)):
        count = heat.shape[axis]
        positions = (2.0 * tf.range(count, dtype=tf.float32) + 1.0) / count - 1.0
        along = tf.reduce_sum(heat, axis=other)
        moment = tf.reduce_sum(along * positions, axis=1)
        centre.append(tf.math.divide_no_nan(moment, mass))
    return tf.stack(centre, axis=1)
