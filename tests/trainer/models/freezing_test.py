import fakes
import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config.regimes import Freeze
from trainer.models import backbones, freezing
from trainer.models.classifier import compute_logits, count_parameters


def test_the_boundary_of_resnet50_is_where_the_job_says():
    backbone = backbones.build_backbone("ResNet50", {}, image_size=32)
    assert len(backbone.layers) == 175
    assert backbone.layers[140].name == "conv4_block6_3_bn"
    freezing.freeze(backbone, freezing.resolve_freeze(backbone, 140))
    assert count_parameters(backbone.trainable_variables) == 14_978_048
    assert count_parameters(backbone.weights) == 23_587_712
    assert freezing.resolve_freeze(backbone, "conv4_block6_3_conv") == 140
    assert freezing.resolve_freeze(backbone, Freeze.ALL) == 175


def test_freezing_can_be_changed_again_and_again():
    classifier = fakes.restore_classifier()
    layers = len(classifier.backbone.layers)
    whole = count_parameters(classifier.backbone.trainable_variables)
    freezing.freeze(classifier.backbone, layers)
    assert classifier.backbone.trainable_variables == []
    freezing.freeze(classifier.backbone, 60)
    part = count_parameters(classifier.backbone.trainable_variables)
    assert 0 < part < whole
    freezing.freeze(classifier.backbone, 0)
    assert count_parameters(classifier.backbone.trainable_variables) == whole


@pytest.mark.parametrize(
    ("frozen", "received"),
    [(87, "--freeze_layers=87"), ("conv99", "--freeze_until=conv99")],
)
def test_a_boundary_outside_the_backbone_is_quoted(frozen, received):
    backbone = fakes.restore_classifier().backbone
    assert len(backbone.layers) == 86
    with pytest.raises(ValueError, match=f"Received: {received}"):
        freezing.resolve_freeze(backbone, frozen)


def test_frozen_batch_norm_keeps_its_statistics_when_the_rest_trains():
    classifier = fakes.restore_classifier()
    freezing.freeze(classifier.backbone, 60)
    norms = [
        layer
        for layer in classifier.backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    before = [norm.moving_mean.numpy().copy() for norm in norms]
    images = tf.random.stateless_uniform([4, 32, 32, 3], [1, 2], 0, 255)
    compute_logits(classifier, images, train_backbone=True)
    moved = [
        not np.array_equal(norm.moving_mean.numpy(), old)
        for norm, old in zip(norms, before, strict=True)
    ]
    frozen = [not norm.trainable for norm in norms]
    assert any(frozen)
    assert moved == [not is_frozen for is_frozen in frozen]


def test_calibration_gives_every_batch_norm_the_statistics_of_the_images():
    classifier = fakes.restore_classifier()
    images = tf.random.stateless_uniform([8, 32, 32, 3], [1, 2], 0, 255)
    first = classifier.backbone.get_layer("conv1_bn")
    freezing.calibrate_batch_norm(classifier, images)
    assert first.momentum == 0.99  # the default of Keras
    convolved = classifier.backbone.get_layer("conv1")(classifier.normalise(images))
    np.testing.assert_allclose(
        first.moving_mean, tf.reduce_mean(convolved, axis=(0, 1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(
        first.moving_variance,
        tf.math.reduce_variance(convolved, axis=(0, 1, 2)),
        rtol=1e-4,
    )
    # What is normalised by its own statistics is the same in both modes.
    features = classifier.normalise(images)
    np.testing.assert_allclose(
        classifier.backbone(features, training=False),
        classifier.backbone(features, training=True),
        atol=1e-2,
    )
