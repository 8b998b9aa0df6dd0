import dataclasses
import pathlib

import fakes
import pytest
from absl import flags

from pipeline.augmentation.presets import MIXERS, PRESET_NAMES
from trainer.config.flags import define_flags, from_flags
from trainer.config.regimes import Regime, make_regimes
from trainer.config.train_config import AUGMENTS, MIXES


def _parse(*arguments):
    values = flags.FlagValues()
    # absl's own --flagfile lives on the global flags.
    flags.DEFINE_string("flagfile", None, "", flag_values=values)
    define_flags(values)
    values(["program", *arguments])
    return from_flags(values)


def test_the_defaults_are_the_notebooks_recipe_on_the_sample():
    settings = _parse()
    assert settings.source == "sample"
    assert settings.backbone == "ResNet50"
    assert settings.freeze_layers == 140
    regimes = make_regimes(settings)
    sgd = {"momentum": 0.9, "schedule": "notebook"}
    assert regimes == [
        Regime("head", None, False, epochs=5, learning_rate=0.01, **sgd),
        Regime("finetune", 140, True, epochs=10, learning_rate=0.001, **sgd),
    ]


def test_the_flag_file_for_the_notebook_is_the_defaults_with_its_precision():
    path = pathlib.Path(fakes.REPOSITORY) / "trainer" / "notebook.flags"
    written = [line for line in path.read_text().splitlines() if line.startswith("--")]
    expected = dataclasses.replace(_parse(), precision="float32", weights="imagenet")
    assert _parse(*written) == expected


def test_backbone_arguments_are_parsed_as_python_values():
    settings = _parse("--backbone_args=alpha=0.25,depth_multiplier=2,name=small")
    assert settings.backbone_args == {
        "alpha": 0.25,
        "depth_multiplier": 2,
        "name": "small",
    }


def test_the_augment_choices_are_the_presets_that_exist():
    assert AUGMENTS == PRESET_NAMES
    assert MIXES == MIXERS


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["--image_size=0"], "--image_size=0"),
        (["--batch_size=-8"], "--batch_size=-8"),
        (["--head_units=0"], "--head_units=0"),
        (["--head_epochs=0"], "--head_epochs=0"),
        (["--finetune_epochs=-1"], "--finetune_epochs=-1"),
        (["--head_lr=0"], "--head_lr=0.0"),
        (["--finetune_lr=-0.1"], "--finetune_lr=-0.1"),
        (["--head_lr=nan"], "--head_lr=nan"),
        (["--finetune_lr=inf"], "--finetune_lr=inf"),
        (["--dropout=1"], "--dropout=1.0"),
        (["--freeze_layers=-1"], "--freeze_layers=-1"),
        (["--virtual_devices=0"], "--virtual_devices=0"),
        (["--regimes=head,tail"], "--regimes=head,tail"),
        (["--regimes=head,head"], "--regimes=head,head"),
        (["--regimes="], "--regimes="),
        (["--backbone_args=alpha"], "--backbone_args=alpha"),
        (["--data_dir=A", "--source=B"], "--data_dir=A --source=B"),
        (["--freeze_until=x", "--freeze_layers=3"], "--freeze_until=x"),
        (["--keep_checkpoints=0"], "--keep_checkpoints=0"),
        (["--profile_steps=20,10"], "--profile_steps=20,10"),
        (["--profile_steps=5"], "--profile_steps=5"),
        (["--data_service=host:5050"], "--data_service=host:5050"),
        (["--data_service=grpc://h:1", "--deterministic"], "--deterministic"),
        (["--data_service=grpc://h:1", "--cached_views=1"], "--cached_views=1"),
        (["--cached_views=-1"], "--cached_views=-1"),
        (["--cache_gb=0"], "--cache_gb=0.0"),
        (["--mix=cutmix", "--cached_views=2"], "--mix=cutmix --cached_views=2"),
    ],
)
def test_a_value_that_cannot_be_used_is_quoted(arguments, received):
    with pytest.raises(ValueError, match="Received: ") as error:
        _parse(*arguments)
    assert received in str(error.value)
