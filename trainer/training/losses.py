"""Computes the loss of each example, and its weight."""

from collections.abc import Sequence

import tensorflow as tf


def sum_weights(batch: dict, class_weights: Sequence[float]) -> tf.Tensor:
    """Returns the sum of the weights of the examples of a replica: float32 []."""
    weights = batch["weight"]
    if class_weights:
        weights *= tf.gather(tf.constant(class_weights), batch["label"])
    return tf.reduce_sum(weights)


def mix_class_weights(
    class_weights: Sequence[float],
    labels: tf.Tensor,
    mixed_labels: tuple[tf.Tensor, tf.Tensor] | None,
) -> tf.Tensor:
    """Returns the weight of each example by its class, or by both: float32 [B].

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
    """Computes the cross-entropy float32 [B], in nats.

    mixed_labels: labels int32 [B] of the examples mixed in, and the fraction
      float32 [B] that is left of the example itself.
    label_smoothing: share of the label that is spread evenly over all classes.
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
