"""The fused model has the outputs and the gradients of the layers themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.models import freezing
from trainer.models.backbones import build_backbone
from trainer.models.batch_norm_fusion import (
    fuse_batch_statistics,
    fuse_classifier,
    fuse_stored_statistics,
)
from trainer.models.boundary import choose_boundary
from trainer.models.classifier import assemble, compute_features, dtype_policy
from trainer.models.frozen_prefix import find_frozen_prefix

L = keras.layers


def _model(*layers) -> keras.Model:
    inputs = keras.Input((9, 9, 4))
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(3)
    for variable in model.variables:
        low = 0.5 if "variance" in variable.name or "gamma" in variable.name else -0.5
        variable.assign(rng.uniform(low, low + 1, variable.shape))
    return model


def _images(count=5, side=9, channels=4):
    rng = np.random.default_rng(4)
    return tf.constant(rng.normal(0, 1, (count, side, side, channels)), tf.float32)


def _outputs_and_gradients(model, images, variables, *, training=False):
    @tf.function(autograph=False)
    def compute(images):
        with tf.GradientTape() as tape:
            outputs = model(images, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
        return outputs, tape.gradient(loss, variables)

    return compute(images)


@pytest.mark.parametrize(
    ("convolution", "norm"),
    [
        (L.Conv2D(6, 3, strides=2, padding="same"), L.BatchNormalization()),
        (L.Conv2D(6, 3, use_bias=False, groups=2), L.BatchNormalization(scale=False)),
        (L.Conv2D(6, 3, dilation_rate=2), L.BatchNormalization(center=False)),
        (
            L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, use_bias=False),
            L.BatchNormalization(epsilon=0.01),
        ),
        (L.DepthwiseConv2D(3, padding="same"), L.BatchNormalization()),
    ],
)
def test_outputs_and_gradients_are_those_of_the_layers(convolution, norm):
    model = _model(convolution, norm, L.ReLU())
    variables = [v.value for v in model.trainable_variables]
    fused = fuse_stored_statistics(model)
    assert not any(isinstance(x, L.BatchNormalization) for x in fused.layers)
    outputs, gradients = _outputs_and_gradients(model, _images(), variables)
    found, found_gradients = _outputs_and_gradients(fused, _images(), variables)
    np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-5)
    assert len(gradients) == len(found_gradients) == len(variables)
    for one, other in zip(gradients, found_gradients, strict=True):
        scale = float(tf.reduce_max(tf.abs(one)))
        np.testing.assert_allclose(other, one, atol=1e-5 * scale)


def test_the_variables_are_shared():
    model = _model(L.Conv2D(6, 3, use_bias=False), L.BatchNormalization())
    fused = fuse_stored_statistics(model)
    ids = [{id(v) for v in each.trainable_variables} for each in (model, fused)]
    assert ids[0] == ids[1]
    model.layers[1].kernel.assign(model.layers[1].kernel * 2)
    model.layers[2].beta.assign(model.layers[2].beta + 1)
    np.testing.assert_allclose(fused(_images()), model(_images()), atol=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        (L.Conv2D(6, 3, activation="relu"), L.BatchNormalization()),
        (L.SeparableConv2D(6, 3), L.BatchNormalization()),
        (L.ReLU(), L.BatchNormalization()),
    ],
)
def test_other_batch_norms_remain(layers):
    model = _model(*layers)
    fused = fuse_stored_statistics(model)
    assert sum(isinstance(x, L.BatchNormalization) for x in fused.layers) == 1
    np.testing.assert_array_equal(fused(_images()), model(_images()))


def test_the_kernel_is_rounded_once_in_half_precision():
    """Errors stay those of half precision, also where a scale is large."""
    with dtype_policy("mixed_bfloat16"):
        model = _model(L.Conv2D(6, 3, use_bias=False), L.BatchNormalization())
        fused = fuse_stored_statistics(model)
    exact = _model(L.Conv2D(6, 3, use_bias=False), L.BatchNormalization())
    for one, other in zip(exact.variables, model.variables, strict=True):
        one.assign(other)
    wanted = exact(_images()).numpy()
    found = fused(_images())
    assert found.dtype == tf.bfloat16
    before, after = (
        np.abs(tf.cast(each(_images()), tf.float32).numpy() - wanted).mean()
        for each in (model, fused)
    )
    assert 0 < after < 1.5 * before


@pytest.mark.parametrize(
    ("norm", "policy", "tolerance"),
    [
        (L.BatchNormalization(momentum=0.7), "float32", 1e-5),
        (L.BatchNormalization(scale=False, epsilon=1.001e-5), "float32", 1e-5),
        (L.BatchNormalization(center=False, momentum=0.0), "float32", 1e-5),
        (L.BatchNormalization(), "mixed_bfloat16", 0.02),
        (L.BatchNormalization(), "mixed_float16", 0.005),
    ],
)
def test_statistics_of_the_batch_are_those_of_the_layers(norm, policy, tolerance):
    with dtype_policy(policy):
        config = norm.get_config() | {"dtype": keras.config.dtype_policy()}
        norm = L.BatchNormalization.from_config(config)
        model = _model(L.Conv2D(6, 3, use_bias=False), norm, L.ReLU())
        fused = fuse_batch_statistics(model)
    assert not any(isinstance(x, L.BatchNormalization) for x in fused.layers)
    variables = [v.value for v in model.trainable_variables]
    before = [v.numpy() for v in norm.non_trainable_variables]
    found = {}
    for each in (model, fused):
        for variable, value in zip(norm.non_trainable_variables, before, strict=True):
            variable.assign(value)
        outputs, gradients = _outputs_and_gradients(
            each, _images(), variables, training=True
        )
        statistics = [v.numpy() for v in norm.non_trainable_variables]
        found[each] = [tf.cast(outputs, tf.float32), *gradients, *statistics]
    assert not np.allclose(found[model][-1], before[-1])
    for one, other in zip(found[model], found[fused], strict=True):
        scale = float(tf.reduce_max(tf.abs(one)))
        np.testing.assert_allclose(other, one, atol=tolerance * scale)


@pytest.mark.parametrize(
    "changes", [{"trainable": False}, {"synchronized": True}, {"epsilon": 1e-7}]
)
def test_batch_norms_that_the_kernel_cannot_compute_remain(changes):
    norm = L.BatchNormalization()
    model = _model(L.Conv2D(6, 3), norm)
    for name, value in changes.items():
        setattr(norm, name, value)
    fused = fuse_batch_statistics(model)
    assert sum(isinstance(x, L.BatchNormalization) for x in fused.layers) == 1


@pytest.mark.parametrize("frozen", [0, 3])
def test_a_classifier_is_fused_behind_its_frozen_prefix(frozen):
    backbone = _model(
        *(L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU()),
        *(L.Conv2D(6, 3), L.BatchNormalization(), L.ReLU()),
    )
    freezing.freeze(backbone, frozen + 1 if frozen else 0)  # with the input layer
    features = keras.Input(backbone.output.shape[1:])
    pooled = L.GlobalAveragePooling2D()(features)
    head = keras.Model(features, L.Dense(3)(pooled))
    classifier = assemble(lambda images: images, backbone, head)
    prefix = find_frozen_prefix(classifier)
    assert (prefix is None) == (frozen == 0)
    images = _images()
    inputs = images if prefix is None else prefix.prefix(images)
    wanted = compute_features(classifier, inputs, frozen_prefix=prefix)
    fused, fused_prefix = fuse_classifier(classifier, prefix, train_batch_norm=False)
    found = compute_features(fused, inputs, frozen_prefix=fused_prefix)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    model = fused.backbone if prefix is None else fused_prefix.suffix
    assert not any(isinstance(x, L.BatchNormalization) for x in model.layers)


@pytest.mark.slow
@pytest.mark.parametrize("train_batch_norm", [False, True])
def test_a_backbone_with_operations_and_branches_is_fused(train_batch_norm):
    backbone = build_backbone("MobileNetV3Small", {}, image_size=64)
    features = keras.Input(backbone.output.shape[1:])
    pooled = L.GlobalAveragePooling2D()(features)
    head = keras.Model(features, L.Dense(3)(pooled))
    classifier = assemble(lambda images: images, backbone, head)
    freezing.calibrate_batch_norm(classifier, _images(4, 64, 3))
    freezing.freeze(backbone, choose_boundary(backbone))
    prefix = find_frozen_prefix(classifier)
    _, fused = fuse_classifier(classifier, prefix, train_batch_norm=train_batch_norm)
    norms = [
        sum(isinstance(layer, L.BatchNormalization) for layer in each.suffix.layers)
        for each in (prefix, fused)
    ]
    assert norms == [7, 0]
    inputs = prefix.prefix(_images(4, 64, 3), training=False)
    wanted, found = (
        each.suffix(inputs, training=train_batch_norm) for each in (prefix, fused)
    )
    scale = float(tf.reduce_max(tf.abs(wanted)))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * scale)
