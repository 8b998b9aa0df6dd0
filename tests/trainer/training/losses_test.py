import numpy as np
import tensorflow as tf
from scipy import special

from trainer.training.losses import compute_losses, mix_class_weights


def test_smoothing_spreads_a_share_of_each_label_over_all_classes():
    labels = np.array([0, 2, 1])
    logits = np.random.default_rng(0).normal(size=(3, 3)).astype("f4")
    targets = 0.7 * np.eye(3)[labels] + 0.3 / 3
    expected = -(targets * np.log(special.softmax(logits, axis=1))).sum(axis=1)
    losses = compute_losses(tf.constant(labels), None, tf.constant(logits), 0.3)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_mixed_example_has_the_mixed_weight_of_its_classes():
    mixed_labels = (tf.constant([1, 0]), tf.constant([0.75, 1.0]))
    weights = mix_class_weights((1.0, 5.0), tf.constant([0, 1]), mixed_labels)
    np.testing.assert_allclose(weights, [0.75 * 1 + 0.25 * 5, 5])
