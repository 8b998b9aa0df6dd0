import keras
import numpy as np
import pytest

from trainer.models import backbones


def _backbone(alpha=0.25):
    return backbones.build_backbone("MobileNet", {"alpha": alpha}, image_size=32)


def _small():
    """Layers of the kinds that MobileNet has, with random weights."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(beta_initializer="normal"),
            keras.layers.DepthwiseConv2D(3),
        ]
    )


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


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_weights_files_of_both_keras_formats_are_loaded(tmp_path, suffix):
    saved, fresh = _small(), _small()
    path = str(tmp_path / f"saved{suffix}")
    saved.save_weights(path) if suffix == ".weights.h5" else saved.save(path)
    backbones.load_weights(fresh, path)
    assert len(saved.weights) == 8
    for left, right in zip(saved.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_that_do_not_fit_are_one_line_that_quotes_the_file(tmp_path):
    _backbone(alpha=0.5).save_weights(tmp_path / "wide.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights")
    (tmp_path / "weights.bin").write_text("no weights")
    narrow = _backbone()
    for name in ("wide.weights.h5", "text.weights.h5", "weights.bin", "none.h5"):
        with pytest.raises(ValueError, match=f"Received: .*{name}") as error:
            backbones.load_weights(narrow, str(tmp_path / name))
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


def test_a_failed_download_names_the_file_its_size_and_its_place(monkeypatch):
    backbone = _backbone()
    monkeypatch.setattr(backbones, "find_backbone", lambda _: (_download_fails, None))
    monkeypatch.setenv("KERAS_HOME", "HOME")
    for weights in ("auto", "imagenet"):
        with pytest.raises(ValueError, match=f"Received: --weights={weights}") as error:
            backbones.load_backbone_weights(backbone, "MobileNet", {}, weights)
        for words in (
            "Download https://example.org/x_notop.h5 (about ",
            " MB) on a machine with a network and put it into HOME/models",
            "--weights=FILE",
            "--weights=embedded",
        ):
            assert words in str(error.value)


def test_the_embedded_weights_are_not_random():
    backbone = backbones.build_backbone("MobileNet", {"alpha": 0.25}, image_size=32)
    before = backbone.get_weights()
    loaded = backbones.load_backbone_weights(
        backbone, "MobileNet", {"alpha": 0.25}, "embedded"
    )
    assert loaded == "embedded"
    assert not any(
        np.array_equal(left, right)
        for left, right in zip(before, backbone.get_weights(), strict=True)
    )


def test_downloaded_weights_reach_the_backbone(monkeypatch):
    pretrained = _backbone()
    backbone = _backbone()
    seen = {}

    def constructor(**arguments):
        seen.update(arguments)
        return pretrained

    monkeypatch.setattr(backbones, "find_backbone", lambda _: (constructor, None))
    loaded = backbones.load_backbone_weights(
        backbone, "MobileNet", {"alpha": 0.25}, "auto"
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
