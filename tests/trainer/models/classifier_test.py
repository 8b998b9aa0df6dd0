import fakes
import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.config.regimes import Freeze
from trainer.models import backbones, freezing
from trainer.models.classifier import (
    build_classifier,
    compute_logits,
    count_parameters,
    dtype_policy,
)


def _tiny(alpha=0.25, **head):
    backbone = backbones.build_backbone("MobileNet", {"alpha": alpha}, image_size=32)
    settings = {"num_classes": 3, "pooling": "avg", "head_units": 8, "dropout": 0.0}
    return build_classifier(backbone, "MobileNet", **{**settings, **head})


def test_any_classification_model_of_keras_applications_is_found_by_name():
    modules = {
        "ResNet50": "resnet",
        "ResNet50V2": "resnet_v2",
        "MobileNetV3Small": "mobilenet_v3",
        "EfficientNetV2B0": "efficientnet_v2",
        "Xception": "xception",
    }
    for name, module in modules.items():
        constructor, preprocess_input = backbones.find_backbone(name)
        assert constructor.__name__ == name
        public = getattr(keras.applications, module)
        assert preprocess_input is public.preprocess_input
    with pytest.raises(ValueError, match="Received: --backbone=ResNet5000"):
        backbones.find_backbone("ResNet5000")
    with pytest.raises(ValueError, match="Received: --backbone=decode_predictions"):
        backbones.find_backbone("decode_predictions")


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
    classifier = _tiny()
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
    backbone = _tiny().backbone
    assert len(backbone.layers) == 86
    with pytest.raises(ValueError, match=f"Received: {received}"):
        freezing.resolve_freeze(backbone, frozen)


def test_frozen_batch_norm_keeps_its_statistics_when_the_rest_trains():
    classifier = _tiny()
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
    classifier = _tiny()
    images = tf.random.stateless_uniform([8, 32, 32, 3], [1, 2], 0, 255)
    first = classifier.backbone.get_layer("conv1_bn")
    momentum = first.momentum
    freezing.calibrate_batch_norm(classifier, images)
    assert first.momentum == momentum
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


def test_logits_are_float32_under_a_half_precision_policy():
    with dtype_policy("mixed_bfloat16"):
        classifier = _tiny()
    assert keras.config.dtype_policy().name == "float32"
    images = tf.zeros([2, 32, 32, 3])
    assert classifier.backbone(images).dtype == tf.bfloat16
    assert compute_logits(classifier, images).dtype == tf.float32
    assert {variable.dtype for variable in classifier.model.weights} == {"float32"}


def test_pooling_units_and_dropout_are_what_was_asked_for():
    head = _tiny(pooling="max", head_units=11, dropout=0.5).head
    assert isinstance(head.get_layer("max_pooling"), keras.layers.GlobalMaxPooling2D)
    assert head.get_layer("hidden").units == 11
    assert head.get_layer("dropout").rate == 0.5
    assert head.get_layer("logits").activation is keras.activations.linear


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_weights_files_of_both_keras_formats_are_loaded(tmp_path, suffix):
    saved, fresh = _tiny().backbone, _tiny().backbone
    path = str(tmp_path / f"saved{suffix}")
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    backbones.load_weights(fresh, path)
    for left, right in zip(saved.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_that_do_not_fit_are_one_line_that_quotes_the_file(tmp_path):
    _tiny(alpha=0.5).backbone.save_weights(tmp_path / "wide.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights")
    (tmp_path / "weights.bin").write_text("no weights")
    for name in ("wide.weights.h5", "text.weights.h5", "weights.bin", "none.h5"):
        with pytest.raises(ValueError, match=f"Received: .*{name}") as error:
            backbones.load_weights(_tiny().backbone, str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_weights_with_more_layers_than_the_model_are_refused(tmp_path):
    inputs = keras.Input((4,))
    middle = keras.layers.Dense(4)(inputs)
    deep = keras.Model(inputs, keras.layers.Dense(4)(middle))
    deep.save_weights(tmp_path / "deep.weights.h5")
    inputs = keras.Input((4,))
    shallow = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    with pytest.raises(ValueError, match="holds 4 arrays"):
        backbones.load_weights(shallow, str(tmp_path / "deep.weights.h5"))


def _download_fails(**arguments):
    raise Exception("URL fetch failure on https://example.org/x_notop.h5")


def test_a_failed_download_is_random_on_the_sample_and_an_error_elsewhere(
    monkeypatch, capsys
):
    backbone = _tiny().backbone
    monkeypatch.setattr(backbones, "find_backbone", lambda _: (_download_fails, None))
    loaded = backbones.load_backbone_weights(
        backbone, "MobileNet", {}, "auto", random_if_offline=True
    )
    assert loaded == "random"
    assert "WARNING" in capsys.readouterr().out
    for weights, on_sample in (("auto", False), ("imagenet", True)):
        with pytest.raises(ValueError, match="--weights=PATH") as error:
            backbones.load_backbone_weights(
                backbone, "MobileNet", {}, weights, random_if_offline=on_sample
            )
        assert "URL fetch failure" in str(error.value)


def test_downloaded_weights_reach_the_backbone(monkeypatch):
    pretrained = _tiny().backbone
    backbone = _tiny().backbone
    seen = {}

    def constructor(**arguments):
        seen.update(arguments)
        return pretrained

    monkeypatch.setattr(backbones, "find_backbone", lambda _: (constructor, None))
    loaded = backbones.load_backbone_weights(
        backbone, "MobileNet", {"alpha": 0.25}, "auto", random_if_offline=False
    )
    assert loaded == "imagenet"
    assert seen == {
        "weights": "imagenet",
        "include_top": False,
        "input_shape": (32, 32, 3),
        "alpha": 0.25,
    }
    for left, right in zip(pretrained.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_arguments_that_a_backbone_does_not_take_are_quoted():
    with pytest.raises(ValueError, match="--backbone_args=width=2"):
        backbones.build_backbone("MobileNet", {"width": 2}, image_size=32)
    with pytest.raises(ValueError, match="--image_size=8"):
        backbones.build_backbone("ResNet50", {}, image_size=8)


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
