import fakes
import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config.head_config import HeadConfig
from trainer.head_search.pooled_features import normalize
from trainer.models import backbones
from trainer.models.classifier import (
    build_classifier,
    compute_head,
    compute_logits,
    dtype_policy,
)

HEAD = HeadConfig("avg", units=8, dropout=0.0)


def _tiny(alpha=0.25, head=HEAD):
    backbone = backbones.build_backbone("MobileNet", {"alpha": alpha}, image_size=32)
    return build_classifier(backbone, "MobileNet", num_classes=3, head=head)


def test_normalisation_is_the_backbones_own_and_inside_the_graph():
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    # ResNet50: BGR, ImageNet's mean subtracted, no scaling.
    _, normalise = backbones.find_backbone("ResNet50")
    expected = images[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")
    np.testing.assert_allclose(normalise(tf.constant(images)), expected, atol=1e-4)
    # MobileNet: [-1, 1].
    classifier = _tiny()
    features = classifier.backbone(images / 127.5 - 1, training=False)
    by_hand = classifier.head(features, training=False)
    np.testing.assert_allclose(classifier.model(images), by_hand, atol=1e-5)
    np.testing.assert_allclose(
        compute_logits(classifier, tf.constant(images)), by_hand, atol=1e-5
    )


def test_logits_are_float32_under_a_half_precision_policy():
    with dtype_policy("mixed_bfloat16"):
        classifier = _tiny()
    assert keras.config.dtype_policy().name == "float32"
    images = tf.zeros([2, 32, 32, 3])
    assert classifier.backbone(images).dtype == tf.bfloat16
    assert compute_logits(classifier, images).dtype == tf.float32
    assert {variable.dtype for variable in classifier.model.weights} == {"float32"}


def test_pooling_units_and_dropout_are_what_was_asked_for():
    head = _tiny(head=HeadConfig("max", 11, 0.5)).head
    assert isinstance(head.get_layer("max_pooling"), keras.layers.GlobalMaxPooling2D)
    assert head.get_layer("hidden").units == 11
    assert head.get_layer("dropout").rate == 0.5
    assert head.get_layer("logits").activation is keras.activations.linear


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_normalized_head_sees_the_proportions_of_the_pooled_features(policy):
    with dtype_policy(policy):
        head = HeadConfig("avg", units=0, dropout=0.0, normalized=True)
        classifier = _tiny(head=head)
    kernel, bias = classifier.head.get_layer("logits").get_weights()
    pooled = np.random.default_rng(0).uniform(0, 40_000, (4, 256)).astype("f4")
    expected = pooled / np.sqrt((pooled**2).mean(axis=1, keepdims=True)) @ kernel + bias
    # What the head search trains on is what the head computes.
    np.testing.assert_allclose(normalize(pooled) @ kernel + bias, expected, atol=1e-4)
    for features in (pooled, pooled / 64):
        logits = compute_head(classifier, tf.constant(features))
        np.testing.assert_allclose(logits, expected, atol=1e-3)
    zeros = compute_head(classifier, tf.zeros([1, 256]))
    np.testing.assert_allclose(
        zeros[0], normalize(np.zeros((1, 256)))[0] @ kernel + bias
    )


def test_dropout_follows_from_its_seed_and_is_off_without_one():
    classifier = fakes.make_classifier()
    classifier.head.get_layer("dropout").rate = 0.5
    images = tf.random.stateless_uniform([4, 32, 32, 3], [1, 2], 0, 255)
    plain = compute_logits(classifier, images)
    np.testing.assert_allclose(plain, classifier.model(images), atol=1e-5)
    drawn = [
        compute_logits(classifier, images, dropout_seed=tf.constant(seed))
        for seed in ([1, 2], [1, 2], [1, 3])
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])
    assert not np.allclose(drawn[0], plain)
