import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config.head_config import HeadConfig
from trainer.models import backbones, freezing
from trainer.models.classifier import build_classifier, compute_logits
from trainer.models.frozen_prefix import find_frozen_prefix

SIDE = 75  # the least that every backbone takes


def _classifier(name, side=SIDE, **arguments):
    keras.utils.set_random_seed(2)
    backbone = backbones.build_backbone(name, arguments, image_size=side)
    return build_classifier(
        backbone, name, num_classes=3, head=HeadConfig("avg", 8, 0.0)
    )


def _images(side, count=4):
    rng = np.random.default_rng(0)
    return tf.constant(rng.uniform(0, 255, (count, side, side, 3)), tf.float32)


def _check_composition(classifier, side):
    """Prefix and suffix together are the model, to the bit."""
    found = find_frozen_prefix(classifier)
    freezing.calibrate_batch_norm(classifier, _images(side))
    images = _images(side)
    whole = compute_logits(classifier, images)
    precomputed = found.prefix(classifier.normalise(images), training=False)
    split = compute_logits(classifier, precomputed, frozen_prefix=found)
    np.testing.assert_array_equal(split, whole)
    assert np.isfinite(whole).all()
    before = {id(v) for v in found.prefix.variables}
    assert not before & {id(v) for v in classifier.model.trainable_variables}
    shared = {id(v) for v in classifier.model.variables}
    assert before <= shared
    if found.suffix is not None:
        assert {id(v) for v in found.suffix.variables} <= shared
        trains = {id(v) for v in classifier.backbone.trainable_variables}
        assert trains <= {id(v) for v in found.suffix.variables}
    return found


def test_the_notebooks_boundary_cuts_inside_a_block_of_resnet50():
    """Layer 140 is a batch norm of the last block of stage 4, which also has a way
    round it: what crosses is the output of the block before."""
    classifier = _classifier("ResNet50", 64)
    freezing.freeze(classifier.backbone, 140)
    found = _check_composition(classifier, 64)
    assert found.name == "conv4_block5_out"
    assert found.prefix.output.shape[1:] == (4, 4, 1024)


def test_where_no_layer_of_the_backbone_trains_the_pooled_features_cross():
    classifier = _classifier("MobileNet", 32, alpha=0.25)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    found = _check_composition(classifier, 32)
    assert (found.name, found.suffix) == ("avg_pooling", None)
    assert found.prefix.output.shape[1:] == (256,)


def test_where_the_first_layer_trains_nothing_can_be_kept():
    classifier = _classifier("MobileNet", 32, alpha=0.25)
    freezing.freeze(classifier.backbone, 0)
    assert find_frozen_prefix(classifier) is None


# Backbone -> layer after which all trains -> what crosses, by the drawing of the block.
BOUNDARIES = {
    "MobileNet": {"conv_pw_9_bn": "conv_pw_9_relu", "conv_dw_5": "conv_dw_5"},
    "ResNet50": {
        "conv5_block1_1_conv": "conv4_block6_out",  # a projection goes round it
        "conv5_block2_2_bn": "conv5_block1_out",  # the identity does
        "conv5_block3_add": "avg_pooling",  # nothing after it has weights
    },
    "MobileNetV2": {
        "block_10_depthwise": "block_10_depthwise",  # channels change: no way round
        "block_11_depthwise": "block_10_project_BN",  # here there is one
    },
    "EfficientNetB0": {"block5b_se_reduce": "block5a_project_bn"},
    "DenseNet121": {"conv5_block3_1_conv": "conv5_block2_concat"},
    "InceptionV3": {"mixed9": "mixed9"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDARIES)
def test_boundaries_inside_blocks(name):
    for layer, crosses in BOUNDARIES[name].items():
        classifier = _classifier(name)
        frozen = freezing.resolve_freeze(classifier.backbone, layer)
        freezing.freeze(classifier.backbone, frozen)
        found = _check_composition(classifier, SIDE)
        assert found.name == crosses, layer


@pytest.mark.slow
def test_what_crosses_may_be_no_layers_output():
    """ConvNeXt adds its branches by an operation that is no layer."""
    classifier = _classifier("ConvNeXtTiny")
    layer = "convnext_tiny_stage_3_block_1_depthwise_conv"
    freezing.freeze(
        classifier.backbone, freezing.resolve_freeze(classifier.backbone, layer)
    )
    found = _check_composition(classifier, SIDE)
    assert found.name.startswith("add")
    assert found.prefix.output.shape[1:] == (2, 2, 768)
