"""Computes the loss of each example, and its weight."""

from collections.abc import Sequence

import tensorflow as tf


def sum_weights(batch: dict, class_weights: Sequence[float]) -> tf.Tensor:
    """Returns the sum of the weights of the examples of a replica, float32 [].

    batch: weight float32 [B], label int [B].
    class_weights: K weights, or empty if all classes have the same.
    """
    weights = batch["weight"]
    if class_weights:
        weights *= tf.gather(tf.constant(class_weights), batch["label"])
    return tf.reduce_sum(weights)


def mix_class_weights(
    class_weights: Sequence[float],
    labels: tf.Tensor,
    mixed_labels: tuple[tf.Tensor, tf.Tensor] | None,
) -> tf.Tensor:
    """Returns the weight of each example, float32 [B]: that of its class.

    A mixed example has the mean of the weights of its two classes, by their fractions.

    Args:
      class_weights: K weights.
      labels: int [B].
      mixed_labels: see compute_losses.
    """
    of_class = tf.constant(class_weights)
    weights = tf.gather(of_class, labels)
    if mixed_labels is None:
        return weights
    other_labels, own_fraction = mixed_labels
    others = tf.gather(of_class, other_labels)
    return own_fraction * weights + (1 - own_fraction) * others


def compute_losses(
    labels: tf.Tensor,
    mixed_labels: tuple[tf.Tensor, tf.Tensor] | None,
    logits: tf.Tensor,
    label_smoothing: float,
) -> tf.Tensor:
    """Computes the cross-entropy of each example, float32 [B], in nats.

    Args:
      labels: int [B].
      mixed_labels: labels int32 [B] of the examples mixed in, and the fraction float32
        [B] that is left of the example itself; None without mixing.
      logits: float32 [B, K].
      label_smoothing: share of the label that is spread evenly over all classes, range
        [0, 1).
    """
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if mixed_labels is not None:
        other_labels, own_fraction = mixed_labels
        other_loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            other_labels, logits
        )
        loss = own_fraction * loss + (1 - own_fraction) * other_loss
    if label_smoothing:
        even_loss = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=1)
        loss = (1 - label_smoothing) * loss + label_smoothing * even_loss
    return loss
