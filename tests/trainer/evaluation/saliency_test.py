"""Tests where a classifier is said to look."""

import fakes
import numpy as np
import tensorflow as tf

from trainer.evaluation.saliency import compute_heat, find_centre


def test_the_centre_of_one_cell_and_of_a_uniform_map():
    heat = np.zeros((4, 2, 4), "f4")
    heat[0] = 1  # everywhere the same
    heat[1, 0, 3] = 2  # top right
    heat[2, :, 1] = 3  # the second column
    # heat[3] is a map of zeros.
    centres = find_centre(tf.constant(heat)).numpy()
    expected = [[0, 0], [-0.5, 0.75], [0, -0.25], [0, 0]]
    np.testing.assert_allclose(centres, expected, atol=1e-6)


def test_the_heat_is_where_a_channel_speaks_for_the_class():
    classifier = fakes.restore_classifier()
    _, _, channels = classifier.head.input.shape[1:]
    rng = np.random.default_rng(0)
    features = rng.random((3, 5, 5, channels)).astype("f4")
    heat = compute_heat(classifier, tf.constant(features)).numpy()
    # By hand: through the hidden layer and its ReLU, for the class with the top logit.
    hidden, logits = (
        classifier.head.get_layer(name).get_weights() for name in ("hidden", "logits")
    )
    before = features.mean(axis=(1, 2)) @ hidden[0] + hidden[1]
    top = (np.maximum(before, 0) @ logits[0] + logits[1]).argmax(axis=1)
    weights = (logits[0].T[top] * (before > 0)) @ hidden[0].T / 25
    expected = np.maximum(np.einsum("bhwc,bc->bhw", features, weights), 0)
    np.testing.assert_allclose(heat, expected, atol=1e-6, rtol=1e-4)
