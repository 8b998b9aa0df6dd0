"""Tests of the way from one regime to the next."""

import json

import fakes
import numpy as np
import pytest
from absl import flags

from pipeline import prepare
from pipeline.loading import prepared_data
from pipeline.loading.order import num_batches
from trainer.config.class_balance import ClassBalance
from trainer.config.flags import define_flags, from_flags
from trainer.config.regimes import Freeze, Regime, make_regimes, plan_steps
from trainer.models import backbones
from trainer.training import checkpoints, run_dir
from trainer.training.regimes import train_regimes


@pytest.mark.slow
def test_a_third_regime_is_another_row(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=25)
    prepare.prepare(str(source), str(tmp_path / "data"))
    values = flags.FlagValues()
    define_flags(values)
    model_dir = tmp_path / "run"
    values(
        [
            "test",
            *fakes.TINY_MODEL_FLAGS,
            f"--data_dir={tmp_path / 'data'}",
            f"--model_dir={model_dir}",
            "--freeze_until=conv_pw_9_bn",
            "--head_epochs=1",
            "--finetune_epochs=2",
        ]
    )
    config = from_flags(values)
    model_dir.mkdir()
    runtime = fakes.one_device_runtime()
    with runtime.strategy.scope():
        classifier = fakes.make_classifier()
    head, finetune = make_regimes(config)
    assert (head.frozen, finetune.frozen) == (Freeze.ALL, "conv_pw_9_bn")
    unfreeze = Regime(
        name="unfreeze",
        frozen=20,
        train_batch_norm=False,
        epochs=1,
        learning_rate=1e-4,
        momentum=0.0,
        schedule="cosine",
    )
    info = prepared_data.read_info(config.data_dir)
    pass_steps = num_batches(info.counts["train"], config.batch_size)
    before = [layer.get_weights() for layer in classifier.backbone.layers]
    position = train_regimes(
        runtime,
        config,
        model_dir,
        classifier,
        regimes=plan_steps([head, finetune, unfreeze], pass_steps, epoch_steps=0),
        balance=ClassBalance(),
        checkpoint=None,
    )
    ran = [(line["regime"], line["epoch"]) for line in position.history]
    assert ran == [("head", 1), ("finetune", 1), ("finetune", 2), ("unfreeze", 1)]
    lines = (model_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(position.history)
    for line in position.history:
        assert 0 <= line["input_wait"] < 1
        assert line["images_per_second"] > 0
    # The variables are those of the best epoch; what was never to train has not.
    after = [layer.get_weights() for layer in classifier.backbone.layers]
    for layer_before, layer_after in zip(before[:20], after[:20], strict=True):
        for left, right in zip(layer_before, layer_after, strict=True):
            np.testing.assert_array_equal(left, right)
    for name in ("head", "finetune", "unfreeze"):
        backbones.load_weights(
            classifier.model, str(run_dir.best_weights_path(model_dir, name))
        )
    (newest, *_) = checkpoints.list_checkpoints(model_dir)
    assert checkpoints.load(newest).position == position
