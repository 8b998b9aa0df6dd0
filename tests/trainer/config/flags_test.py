import dataclasses
import json
import pathlib

import fakes
import pytest
from absl import flags

from pipeline.augmentation import presets
from trainer.config import regime_specs
from trainer.config.flags import define_flags, from_flags
from trainer.config.regimes import (
    Freeze,
    Regime,
    limit_steps,
    make_regimes,
    plan_steps,
)
from trainer.config.stored_config import config_from_json
from trainer.evaluation.summary import Summary


def _make_values():
    values = flags.FlagValues()
    # absl's own --flagfile lies on the global flags.
    flags.DEFINE_string("flagfile", None, "", flag_values=values)
    define_flags(values)
    return values


def _parse(*arguments):
    values = _make_values()
    values(["program", "--model_dir=RUN", *arguments])
    return from_flags(values)


def test_without_flags_the_embedded_sample_trains_on_the_embedded_weights():
    config = _parse()
    assert (config.source, config.weights) == ("sample", "embedded")
    assert (config.backbone, config.backbone_args) == ("MobileNet", {"alpha": 0.25})
    assert (config.image_size, config.freeze_layers) == (128, 40)
    assert _parse("--freeze_until=conv_pw_3_relu").freeze_layers is None
    assert _parse("--recipe=notebook").finetune_lr == 0.001
    assert _parse("--image_size=64").image_size == 64
    for flag in ("--backbone=ResNet50", "--weights=random", "--source=PHOTOS"):
        config = _parse(flag)
        assert (config.backbone, config.image_size) == ("ResNet50", 224)
        assert config.weights != "embedded"
    config = _parse("--source=PHOTOS", "--weights=embedded")
    assert config.backbone == "MobileNet"


def test_the_recipe_of_the_notebook():
    config = _parse("--source=PHOTOS", "--recipe=notebook")
    assert config.backbone == "ResNet50"
    assert config.freeze_layers == 140
    sgd = {"momentum": 0.9, "schedule": "inverse_time"}
    assert make_regimes(config) == [
        Regime("head", Freeze.ALL, False, epochs=5, learning_rate=0.01, **sgd),
        Regime("finetune", 140, True, epochs=10, learning_rate=0.001, **sgd),
    ]


def test_the_flag_file_for_the_notebook_is_the_defaults_with_its_precision():
    path = pathlib.Path(fakes.REPOSITORY, "trainer/recipes/kaggle_notebook.flags")
    expected = _parse("--recipe=notebook", "--precision=float32", "--weights=imagenet")
    assert _parse(f"--flagfile={path}") == expected


def test_the_default_of_freeze_layers_is_a_number_for_resnet50_alone():
    assert make_regimes(_parse("--backbone=MobileNet"))[1].frozen is Freeze.AUTOMATIC
    frozen_layers = ["--backbone=MobileNet", "--freeze_layers=7"]
    assert make_regimes(_parse(*frozen_layers))[1].frozen == 7
    config = _parse("--source=PHOTOS", "--freeze_until=conv1_conv")
    assert config.freeze_layers is None
    assert make_regimes(config)[1].frozen == "conv1_conv"


def test_a_flag_overrides_the_recipe_and_the_recipe_the_defaults():
    config = _parse("--recipe=notebook", "--finetune_lr=0.5", "--augment=strong")
    assert (config.finetune_lr, config.augment) == (0.5, "strong")
    assert (config.head_units, config.cached_views) == (512, 0)
    config = _parse("--finetune_lr=0.5", "--augment=strong")
    assert (config.finetune_lr, config.augment) == (0.5, "strong")
    assert (config.head_start, config.head_units, config.head_epochs) == (
        "logistic",
        0,
        0,
    )
    head, finetune = make_regimes(config)
    assert (head.epochs, head.result) == (0, "best")
    assert (finetune.min_steps, finetune.result) == (300, "average")
    assert _parse("--recipe=best") == _parse()


@pytest.mark.parametrize(
    "flag", ["--head_units=16", "--dropout=0.1", "--sweep=head", "--head_folds=3"]
)
def test_a_flag_of_a_trained_head_trains_the_head(flag):
    config = _parse(flag)
    assert (config.head_start, config.head_epochs) == ("random", 5)
    assert config.head_units == (16 if "units" in flag else 512)
    assert config.finetune_result == "average"
    assert not config.normalize_features


def test_a_run_without_the_head_regime_ends_with_its_best_epoch():
    config = _parse("--regimes=finetune")
    assert (config.head_start, config.finetune_result) == ("random", "best")


def test_few_images_have_more_epochs():
    regimes = make_regimes(_parse("--finetune_epochs=5", "--finetune_steps=400"))
    found = {
        (pass_steps, epoch_steps): [
            (regime.epochs, regime.epoch_steps, regime.steps)
            for regime in plan_steps(regimes, pass_steps, epoch_steps=epoch_steps)
        ]
        for pass_steps, epoch_steps in ((7, 0), (7, 30), (80, 30), (1, 30), (50, 200))
    }
    assert found == {
        (7, 0): [(0, 7, 0), (58, 7, 406)],
        (7, 30): [(0, 7, 0), (12, 35, 406)],  # The last epoch has 3 passes, not 5.
        (80, 30): [(0, 80, 0), (5, 80, 400)],
        (1, 30): [(0, 1, 0), (14, 30, 400)],
        (50, 200): [(0, 50, 0), (8, 50, 400)],  # Not fewer than 5 epochs.
    }


def test_fewer_steps_make_the_last_epoch_shorter():
    regimes = make_regimes(_parse("--finetune_epochs=3", "--finetune_steps=0"))
    _, finetune = plan_steps(regimes, 10, epoch_steps=30)
    found = [limit_steps(finetune, steps) for steps in (1, 20, 21, 99)]
    assert [(each.steps, each.epochs) for each in found] == [
        (1, 1),
        (20, 2),
        (21, 3),
        (30, 3),
    ]


def test_a_user_lists_regimes_of_his_own():
    config = _parse(
        "--backbone=MobileNet",
        "--regimes=head,top,late:freeze=20:lr=0.5:epochs=2,"
        "named:freeze=conv1_relu:steps=40,all:lr=0.25",
        "--finetune_lr=0.125",
    )
    _, top, late, named, every = make_regimes(config)
    assert (top.name, top.frozen) == ("top", Freeze.AUTOMATIC)
    assert (top.learning_rate, top.min_steps) == (0.125, 300)
    assert (late.name, late.frozen, late.learning_rate) == ("late", 20, 0.5)
    assert (late.epochs, late.min_steps, late.result) == (2, 0, "average")
    assert (named.frozen, named.min_steps, named.epochs) == ("conv1_relu", 40, 5)
    assert (every.name, every.frozen, every.learning_rate) == ("all", 0, 0.25)
    (_, every) = make_regimes(_parse("--regimes=head,all", "--finetune_lr=0.5"))
    assert (every.frozen, every.learning_rate) == (0, pytest.approx(0.05))
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config_from_json(stored) == config


def test_a_regime_cannot_have_the_name_of_a_key_of_the_summary():
    keys = set(Summary.__annotations__)
    assert keys <= set(regime_specs.RESERVED_NAMES)


def test_directories_without_a_flag_are_set():
    config = _parse()
    assert (config.export_dir, config.data_dir) == ("RUN/export", "RUN/data")
    config = _parse("--data_dir=DATA", "--export_dir=EXPORT")
    assert (config.export_dir, config.data_dir) == ("EXPORT", "DATA")
    assert config.source is None
    values = _make_values()
    values(["program"])
    model_dir = pathlib.Path(from_flags(values).model_dir)
    assert model_dir.parent == pathlib.Path("runs")


OLD_SPELLINGS = {
    "--augment=notebook": "--augment=basic",
    "--schedule=notebook": "--schedule=inverse_time",
    "--folds=3": "--head_folds=3",
    "--nofold_frozen": "--nofuse_batch_norm",
    "--fold_frozen=false": "--fuse_batch_norm=false",
}


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("old", OLD_SPELLINGS)
def test_old_spellings_of_flags_are_accepted(old, in_file, tmp_path):
    expected = _parse(OLD_SPELLINGS[old])
    if in_file:
        (tmp_path / "old.flags").write_text(old + "\n")
        old = f"--flagfile={tmp_path / 'old.flags'}"
    assert _parse(old) == expected


def test_old_spellings_are_not_in_the_help_text():
    shown = _make_values().get_help()
    assert "head_folds" in shown
    assert f"<{'|'.join(presets.PRESETS)}>" in shown
    assert "<inverse_time|constant|cosine|warmup_cosine>" in shown
    for old in ("--folds", "fold_frozen"):
        assert old not in shown


def test_the_config_of_an_earlier_version_is_read():
    config = _parse(
        *("--recipe=notebook", "--head_folds=3", "--nofuse_batch_norm"),
        "--profile_steps=1,2",
    )
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config_from_json(stored) == config
    stored |= {"folds": 3, "fold_frozen": False, "augment": "notebook"}
    stored |= {"schedule": "notebook", "export_dir": None, "data_dir": None}
    del stored["head_folds"], stored["fuse_batch_norm"]
    assert config_from_json(stored) == config
    # Before there were recipes, what is not stored had the default of the notebook.
    del stored["recipe"], stored["label_smoothing"]
    read = config_from_json(stored)
    assert (read.recipe, read.label_smoothing) == ("notebook", 0.0)
    # Before there were class weights, all images had the same weight.
    stored = json.loads(json.dumps(dataclasses.asdict(_parse())))
    assert config_from_json(stored).class_weights == "auto"
    assert config_from_json(stored).normalize_features
    del stored["class_weights"], stored["normalize_features"]
    assert config_from_json(stored).class_weights == "none"
    assert not config_from_json(stored).normalize_features
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    # Its default of --freeze_layers was stored beside --freeze_until.
    stored["freeze_until"] = "conv1_conv"
    assert config_from_json(stored).freeze_layers is None
    with pytest.raises(ValueError, match="Received: --seed=-1"):
        config_from_json(stored | {"seed": -1})


def test_backbone_arguments_are_parsed_as_python_values():
    config = _parse("--backbone_args=alpha=0.25,depth_multiplier=2,name=small")
    assert config.backbone_args == {
        "alpha": 0.25,
        "depth_multiplier": 2,
        "name": "small",
    }


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["--image_size=0"], "--image_size=0"),
        (["--batch_size=-8"], "--batch_size=-8"),
        (
            ["--weights=embedded", "--backbone=ResNet50"],
            "--weights=embedded --backbone=ResNet50",
        ),
        (["--head_units=-1"], "--head_units=-1"),
        (["--recipe=notebook", "--head_epochs=0"], "--head_epochs=0"),
        (["--finetune_epochs=-1"], "--finetune_epochs=-1"),
        (["--head_lr=0"], "--head_lr=0.0"),
        (["--finetune_lr=-0.1"], "--finetune_lr=-0.1"),
        (["--head_lr=nan"], "--head_lr=nan"),
        (["--finetune_lr=inf"], "--finetune_lr=inf"),
        (["--dropout=1"], "--dropout=1.0"),
        (["--freeze_layers=-1"], "--freeze_layers=-1"),
        (["--virtual_devices=0"], "--virtual_devices=0"),
        (
            ["--virtual_devices=2", "--strategy=one_device"],
            "--virtual_devices=2 --strategy=one_device",
        ),
        (["--regimes=head,tail"], "--regimes=tail"),
        (["--regimes=head,tail:freeze="], "freeze= in --regimes=tail:freeze="),
        (["--regimes=head,a:freeze=1,a:freeze=2"], "a:freeze=1,a:freeze=2"),
        (["--regimes=head,all:lr=-1"], "lr=-1 in --regimes=all:lr=-1"),
        (["--regimes=head,all:lr=1:lr=2"], "--regimes=all:lr=1:lr=2"),
        (["--regimes=head,all:epochs=0"], "epochs=0 in --regimes=all:epochs=0"),
        (["--regimes=head,all:momentum=1"], "momentum=1 in --regimes=all"),
        (["--regimes=head:lr=1"], "--regimes=head:lr=1"),
        (["--regimes=head,test:freeze=1"], "--regimes=test:freeze=1"),
        (["--regimes=head,../x:freeze=1"], "--regimes=../x:freeze=1"),
        (["--epoch_steps=-1"], "--epoch_steps=-1"),
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
        (["--head_folds=1"], "--head_folds=1"),
        (["--recipe=fashionable"], "--recipe=fashionable"),
        (
            ["--head_start=logistic", "--dropout=0.5"],
            "--head_start=logistic --head_units=512",
        ),
        (
            ["--head_start=logistic", "--head_units=0", "--regimes=finetune,head"],
            "--head_start=logistic --regimes=finetune,head",
        ),
        (
            ["--finetune_result=average", "--regimes=finetune"],
            "--finetune_result=average --regimes=finetune",
        ),
        (["--label_smoothing=1"], "--label_smoothing=1.0"),
        (["--finetune_steps=-1"], "--finetune_steps=-1"),
        (["--head_units=0", "--sweep=head"], "--head_units=0"),
        (
            ["--head_start=logistic", "--head_units=0", "--sweep=head"],
            "--head_start=logistic --sweep=head",
        ),
        (["--folds=2", "--head_folds=3"], "--folds=2 --head_folds=3"),
        (["--augment=weak"], "--augment=weak"),
        (["--class_weights=some"], "--class_weights=some"),
        (["--xla=maybe"], "--xla=maybe"),
        (["--cached_views=-1"], "--cached_views=-1"),
        (["--cache_gb=0"], "--cache_gb=0.0"),
        (["--mix=cutmix", "--cached_views=2"], "--mix=cutmix --cached_views=2"),
    ],
)
def test_a_value_that_cannot_be_used_is_quoted(arguments, received):
    with pytest.raises(ValueError, match="Received: ") as error:
        _parse(*arguments)
    assert received in str(error.value)
