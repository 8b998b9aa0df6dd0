"""Tests of a training step, against plain Keras and over replicas."""

import dataclasses
import json

import fakes
import keras
import numpy as np
import pytest
import tensorflow as tf
from fakes import shallow_net
from scipy import special

from pipeline.augmentation import mixing
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_train_dataset
from pipeline.loading.order import num_batches
from trainer.evaluation import evaluate
from trainer.models import freezing
from trainer.models.classifier import compute_logits, dtype_policy
from trainer.training import checkpoints, loop
from trainer.training.optimizer import make_optimizer
from trainer.training.step import make_train_steps

SIZES = {"image_size": 32, "batch_size": 8}


def _classifier():
    """Always the same one, in the scope of the strategy."""
    with fakes.one_device_runtime().strategy.scope():
        return fakes.make_classifier()


def _optimizer(runtime, classifier, schedule="constant", rate=0.05):
    return make_optimizer(
        runtime,
        classifier,
        learning_rate=rate,
        momentum=0.9,
        schedule=schedule,
        total_steps=100,
    )


def _train(
    runtime, classifier, optimizer, records, *, epochs=1, preset="none", bn=False
):
    train_steps = make_train_steps(
        runtime,
        classifier,
        optimizer,
        build_augmenter(preset),
        train_batch_norm=bn,
    )
    return fakes.train(runtime, train_steps, records, epochs=epochs, seed=1, **SIZES)


@pytest.mark.slow
def test_an_epoch_is_the_same_arithmetic_as_plain_keras(data_dir):
    """Steps, weights of the partial batch, momentum: against a loop by hand."""
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "train")
    assert records.count % 8
    ours, plain = _classifier(), fakes.make_classifier()
    for classifier in (ours, plain):
        freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    ((mean_loss, mean_accuracy),) = _train(
        runtime, ours, _optimizer(runtime, ours), records
    )

    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    variables = plain.model.trainable_variables
    losses, correct = [], []
    batches = make_train_dataset(records, epoch=1, seed=1, **SIZES)
    for batch in batches.take(num_batches(records.count, 8)):
        counted = batch["weight"] > 0
        images, labels = batch["image"][counted], batch["label"][counted]
        with tf.GradientTape() as tape:
            logits = plain.model(images, training=False)
            each = keras.losses.sparse_categorical_crossentropy(
                labels, logits, from_logits=True
            )
            loss = tf.reduce_mean(each)
        optimizer.apply(tape.gradient(loss, variables), variables)
        losses += each.numpy().tolist()
        correct += (logits.numpy().argmax(axis=1) == labels.numpy()).tolist()
    assert mean_loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert mean_accuracy == pytest.approx(np.mean(correct), abs=1e-6)
    for left, right in zip(ours.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_only_what_is_not_frozen_changes(data_dir):
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "train")
    classifier = _classifier()
    freezing.freeze(classifier.backbone, 60)
    before = [weight.numpy().copy() for weight in classifier.model.weights]
    _train(runtime, classifier, _optimizer(runtime, classifier), records, bn=True)
    frozen = {
        weight.path
        for layer in classifier.backbone.layers[:60]
        for weight in layer.weights
    }
    changed = {
        weight.path
        for weight, old in zip(classifier.model.weights, before, strict=True)
        if not np.array_equal(weight.numpy(), old)
    }
    assert not changed & frozen
    kernels = {w.path for w in classifier.model.weights if w.path.endswith("kernel")}
    assert kernels - changed == kernels & frozen
    moved = {path for path in changed if path.endswith("moving_mean")}
    assert len(moved) == 8  # conv_dw_10_bn to conv_pw_13_bn


@pytest.mark.slow
@pytest.mark.parametrize("train_batch_norm", [False, True])
def test_fused_batch_norm_trains_the_same_but_for_rounding(data_dir, train_batch_norm):
    shallow_net.register()
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "train")
    weights = {}
    for fuse in (False, True):
        with runtime.strategy.scope():
            classifier = fakes.make_classifier("ShallowNet")
        train_steps = make_train_steps(
            runtime,
            classifier,
            _optimizer(runtime, classifier, rate=0.01),
            build_augmenter("none"),
            train_batch_norm=train_batch_norm,
            fuse_batch_norm=fuse,
        )
        fakes.train(runtime, train_steps, records, epochs=1, seed=1, **SIZES)
        weights[fuse] = [w.numpy() for w in classifier.model.weights]
    pairs = list(zip(weights[False], weights[True], strict=True))
    for layers, fused in pairs:
        np.testing.assert_allclose(fused, layers, rtol=1e-3, atol=1e-4)
    assert not all(np.array_equal(*pair) for pair in pairs)


@pytest.mark.slow
def test_augmentation_reaches_the_training_and_never_the_evaluation(data_dir):
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "train")
    losses = {}
    for preset in ("none", "basic"):
        classifier = _classifier()
        (losses[preset],) = _train(
            runtime, classifier, _optimizer(runtime, classifier), records, preset=preset
        )
    assert losses["none"] != losses["basic"]
    eval_step = evaluate.make_eval_step(runtime, classifier)
    first, _ = evaluate.evaluate(runtime, eval_step, records, **SIZES)
    second, _ = evaluate.evaluate(runtime, eval_step, records, **SIZES)
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_float16_skips_steps_that_overflow_and_halves_the_scale(data_dir):
    runtime = dataclasses.replace(fakes.one_device_runtime(), precision="mixed_float16")
    records = prepared_data.read_records(data_dir, "train")
    steps = num_batches(records.count, 8)
    with dtype_policy("mixed_float16"):
        classifier = _classifier()
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    optimizer = _optimizer(runtime, classifier)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    bias = classifier.head.get_layer("logits").bias
    before = bias.numpy().copy()
    optimizer.dynamic_scale.assign(2.0**100)
    _train(runtime, classifier, optimizer, records)
    np.testing.assert_array_equal(bias, before)
    assert float(optimizer.dynamic_scale) == 2.0 ** (100 - steps)
    assert int(optimizer.iterations) == 0
    optimizer.dynamic_scale.assign(2.0**10)
    _train(runtime, classifier, optimizer, records)
    assert not np.array_equal(bias, before)
    assert int(optimizer.iterations) == steps
    # A checkpoint carries the scale, and how many steps went well with it.
    captured = checkpoints.capture(optimizer.variables)
    fresh = _optimizer(runtime, classifier)
    checkpoints.restore_variables(fresh.variables, captured)
    assert float(fresh.dynamic_scale) == 2.0**10
    assert int(fresh.step_counter) == int(optimizer.step_counter) == steps
    assert int(fresh.iterations) == steps


@pytest.mark.slow
def test_the_core_compiled_by_xla_computes_the_same(data_dir):
    records = prepared_data.read_records(data_dir, "train")
    results = {}
    for jit in (False, True):
        runtime = dataclasses.replace(fakes.one_device_runtime(), jit=jit)
        classifier = _classifier()
        freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
        results[jit] = _train(
            runtime,
            classifier,
            _optimizer(runtime, classifier, rate=0.01),
            records,
            epochs=2,
            preset="basic",
        )
    for plain, compiled in zip(results[False], results[True], strict=True):
        assert compiled[0] == pytest.approx(plain[0], rel=1e-3)


@pytest.mark.slow
def test_xla_compiles_the_core_on_replicas_and_changes_no_loss(data_dir, tmp_path):
    dump = tmp_path / "dump"
    flags = [
        *(fakes.TRAIN_ONLY, *fakes.SHALLOW_MODEL_FLAGS, "--epochs_only"),
        *("--augment=none", "--dropout=0", "--finetune_batch_norm=frozen"),
        # At larger rates so small a network makes much of how numbers round.
        *("--head_lr=0.002", "--finetune_lr=0.001"),
        *("--head_epochs=1", "--finetune_epochs=1", f"--data_dir={data_dir}"),
    ]
    plain = fakes.run_fork(*flags, f"--model_dir={tmp_path / 'plain'}", "--xla=off")
    assert plain.returncode == 0, plain.stderr[-3000:]
    compiled = fakes.run(
        *(*flags, f"--model_dir={tmp_path / 'xla'}"),
        *("--xla=on", "--virtual_devices=2"),
        # XLA writes what it compiles. It reads the variable when it is imported.
        environment={"XLA_FLAGS": f"--xla_dump_to={dump}"},
    )
    assert compiled.returncode == 0, compiled.stderr[-3000:]
    assert "2 replica(s)" in compiled.stdout
    assert any("compute_gradients" in path.name for path in dump.iterdir())
    losses = {}
    for name in ("plain", "xla"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [
            (line["train_loss"], line["val_loss"]) for line in map(json.loads, lines)
        ]
    np.testing.assert_allclose(losses["xla"], losses["plain"], rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_is_the_loss_of_both_labels(data_dir, name):
    """One step of SGD on a mixed batch, against the same by hand."""
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "train")
    classifier = _classifier()
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    mixed = []
    mixer = mixing.build_mixer(name)

    def record(images, seed, weights):
        found = mixer(images, seed, weights)
        tf.numpy_function(lambda *parts: mixed.append(parts), [*found], [])
        return found

    train_steps = make_train_steps(
        runtime,
        classifier,
        _optimizer(runtime, classifier, rate=0.0),
        build_augmenter("none"),
        train_batch_norm=False,
        mix=record,
    )
    batches = loop.start_reading(runtime, records, epoch=1, seed=1, **SIZES)
    steps = num_batches(records.count, 8)
    updates = loop.train_epoch(train_steps, batches, steps=steps, epoch=1, seed=1)
    losses = [loss for update in updates for loss in update.losses]
    batches = make_train_dataset(records, epoch=1, seed=1, **SIZES).take(steps)
    for (images, partner, share), batch, found in zip(
        mixed, batches, losses, strict=True
    ):
        assert (share < 1).any()
        own = batch["label"].numpy()
        log = tf.nn.log_softmax(compute_logits(classifier, images)).numpy()
        rows = np.arange(8)
        wanted = -(share * log[rows, own] + (1 - share) * log[rows, own[partner]])
        weights = batch["weight"].numpy()
        assert found == pytest.approx(float((weights * wanted).sum()), rel=1e-4)


@pytest.mark.slow
def test_class_weights_make_the_loss_a_weighted_mean(data_dir):
    """One step of plain SGD moves the bias by the weighted mean of its gradients."""
    runtime = fakes.one_device_runtime()
    records = prepared_data.read_records(data_dir, "train")
    classifier = _classifier()
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    of_class = np.array([0.5, 1.0, 2.0])
    optimizer = make_optimizer(
        runtime,
        classifier,
        learning_rate=0.1,
        momentum=0.0,
        schedule="constant",
        total_steps=1,
    )
    train_steps = make_train_steps(
        runtime,
        classifier,
        optimizer,
        build_augmenter("none"),
        train_batch_norm=False,
        class_weights=of_class.tolist(),
    )
    (batch,) = make_train_dataset(records, epoch=1, seed=1, **SIZES).take(1)
    labels = batch["label"].numpy()
    logits = compute_logits(classifier, batch["image"]).numpy()
    errors = special.softmax(logits, axis=1) - np.eye(3)[labels]
    bias = classifier.head.get_layer("logits").bias
    counted = batch["weight"].numpy()  # 0 for a filler of the last batch.
    weights = counted * of_class[labels]
    wanted = bias.numpy() - 0.1 * np.average(errors, axis=0, weights=weights)
    batches = loop.start_reading(runtime, records, epoch=1, seed=1, **SIZES)
    (update,) = loop.train_epoch(train_steps, batches, steps=1, epoch=1, seed=1)
    assert len(set(labels)) > 1
    np.testing.assert_allclose(bias.numpy(), wanted, rtol=1e-4, atol=1e-6)
    # What is reported is the loss without weights.
    log = special.log_softmax(logits, axis=1)[np.arange(8), labels]
    assert update.losses[0] == pytest.approx(-(counted * log).sum(), rel=1e-4)
