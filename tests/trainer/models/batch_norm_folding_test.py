import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.models import backbones, freezing
from trainer.models.batch_norm_folding import fold_batch_norm
from trainer.models.classifier import Classifier, assemble, compute_logits

SIDE = 75  # the least that every backbone takes


def _backbone(layers) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def _classifier(backbone, side) -> Classifier:
    """Batch norms with every parameter of its own, and features of a sensible scale."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
    features = keras.Input(backbone.output.shape[1:])
    pooled = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    logits = keras.layers.Dense(3, name="logits")(pooled)
    head = keras.Model(features, logits)
    classifier = assemble(lambda images: images / 127.5 - 1, backbone, head)
    freezing.calibrate_batch_norm(classifier, _images(side))
    return classifier


def _images(side):
    rng = np.random.default_rng(4)
    return tf.constant(rng.uniform(0, 255, (8, side, side, 3)), tf.float32)


def _logits(classifier, side):
    run = tf.function(lambda images: compute_logits(classifier, images))
    return run(_images(side)).numpy()


def _served(classifier, folded) -> Classifier:
    return assemble(classifier.normalise, folded.model, classifier.head)


def _conv(**options):
    return keras.layers.Conv2D(4, 3, kernel_initializer="he_normal", **options)


@pytest.mark.parametrize(
    "convolution",
    [
        _conv(use_bias=False),
        _conv(bias_initializer="normal"),
        _conv(padding="same", strides=2, dilation_rate=1),
        keras.layers.Conv2D(6, 3, groups=3),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        keras.layers.SeparableConv2D(5, 3, depth_multiplier=2),
        keras.layers.Dense(4),
    ],
    ids=lambda layer: layer.name,
)
def test_each_kind_of_convolution_takes_its_batch_norm_in(convolution):
    layers = []
    for options in ({}, {"scale": False}, {"center": False}):
        config = {**convolution.get_config(), "name": None}
        layers.append(type(convolution).from_config(config))
        layers.append(keras.layers.BatchNormalization(**options))
    classifier = _classifier(_backbone(layers), 8)
    folded = fold_batch_norm(classifier.backbone)
    assert (folded.folded, folded.kept) == (3, ())
    np.testing.assert_allclose(
        _logits(_served(classifier, folded), 8),
        _logits(classifier, 8),
        rtol=1e-5,
        atol=1e-5,
    )
    kinds = {type(layer).__name__ for layer in folded.model.layers}
    assert "BatchNormalization" not in kinds


def test_a_batch_norm_with_no_convolution_of_its_own_stays():
    inputs = keras.Input((8, 8, 3))
    active = keras.layers.BatchNormalization(name="after_relu")(
        _conv(activation="relu")(inputs)
    )
    shared = _conv()(inputs)
    sole = keras.layers.BatchNormalization(name="of_shared")(shared)
    outputs = keras.layers.Concatenate()([active, sole, shared])
    first = keras.layers.BatchNormalization(name="after_concat")(outputs)
    classifier = _classifier(keras.Model(inputs, first), 8)
    folded = fold_batch_norm(classifier.backbone)
    assert folded.folded == 0
    assert set(folded.kept) == {"after_relu", "of_shared", "after_concat"}
    np.testing.assert_allclose(
        _logits(_served(classifier, folded), 8),
        _logits(classifier, 8),
        rtol=1e-5,
        atol=1e-5,
    )


# Name -> how many are folded, how many stay; what a person can count in the papers:
# pre-activation nets and dense ones normalise sums, which no convolution makes.
BACKBONES = {
    "ResNet50": (53, 0),
    "MobileNet": (27, 0),
    "MobileNetV2": (52, 0),
    "MobileNetV3Small": (34, 0),
    "EfficientNetB0": (49, 0),
    "EfficientNetV2B0": (59, 0),
    "InceptionV3": (94, 0),
    "Xception": (40, 0),
    "ResNet50V2": (32, 17),
    "DenseNet121": (59, 62),
    "NASNetMobile": (188, 4),
    "VGG16": (0, 0),
    "ConvNeXtTiny": (0, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_folded_backbone_computes_what_it_did(name):
    backbone = backbones.build_backbone(name, {}, image_size=SIDE)
    classifier = _classifier(backbone, SIDE)
    folded = fold_batch_norm(classifier.backbone)
    assert (folded.folded, len(folded.kept)) == BACKBONES[name]
    wanted = _logits(classifier, SIDE)
    scale = np.abs(wanted).max()
    found = _logits(_served(classifier, folded), SIDE)
    # Ninety layers of random weights magnify rounding; a wrong fold is off by itself.
    np.testing.assert_allclose(found / scale, wanted / scale, atol=5e-3)


def test_bfloat16_has_half_the_bytes_where_there_is_a_kernel():
    backbone = _backbone(
        [
            _conv(use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.BatchNormalization(name="kept"),
        ]
    )
    classifier = _classifier(backbone, 8)
    folded = fold_batch_norm(classifier.backbone, precision="bfloat16")
    dtypes = {v.path: v.dtype for v in folded.model.weights}
    assert {d for p, d in dtypes.items() if "kept" not in p} == {"bfloat16"}
    assert {d for p, d in dtypes.items() if "kept" in p} == {"float32"}
    assert folded.model.layers[1].compute_dtype == "bfloat16"
    found = _logits(_served(classifier, folded), 8)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _logits(classifier, 8), atol=0.05)
