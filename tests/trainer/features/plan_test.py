"""Tests of which regime trains on which features."""

import dataclasses

import fakes
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from fakes import shallow_net
from fakes.features import FROZEN_LAYERS, SIZES, compute_features, make_cache

from pipeline.augmentation.augmenter import build_augmenter
from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_train_dataset
from pipeline.loading.order import mix_seed, num_batches
from trainer.config.flags import define_flags, from_flags
from trainer.config.regimes import make_regimes
from trainer.features.extraction import View
from trainer.features.plan import (
    RegimeInput,
    cache_from_config,
    load_features,
    plan_inputs,
    resolve_views,
)
from trainer.models import freezing
from trainer.models.frozen_prefix import find_frozen_prefix
from trainer.training.optimizer import make_optimizer
from trainer.training.step import make_train_steps


def _train(classifier, records, *, precomputed, epochs):
    runtime = fakes.one_device_runtime()
    optimizer = make_optimizer(
        runtime,
        classifier,
        learning_rate=0.002,
        momentum=0.9,
        schedule="constant",
        total_steps=100,
    )
    train_steps = make_train_steps(
        runtime,
        classifier,
        optimizer,
        build_augmenter("basic"),
        train_batch_norm=False,
        frozen_prefix=find_frozen_prefix(classifier),
        precomputed=precomputed,
    )
    return fakes.train(runtime, train_steps, records, epochs=epochs, seed=4, **SIZES)


def _views(count):
    return [View("basic", mix_seed(4, view + 1)) for view in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [9, 19])
def test_as_many_views_as_epochs_are_the_exact_run(data_dir, tmp_path, freeze):
    shallow_net.register()
    records = prepared_data.read_records(data_dir, "train")
    results = {}
    for precomputed in (False, True):
        with fakes.one_device_runtime().strategy.scope():
            made = fakes.make_classifier("ShallowNet")
        freezing.freeze(made.backbone, freeze)
        read = records
        if precomputed:
            (read,) = compute_features(
                make_cache(tmp_path), made, records, views=_views(3)
            )
            assert len(read.features) == 3
            assert not np.allclose(read.features[0], read.features[1])
        results[precomputed] = _train(made, read, precomputed=precomputed, epochs=3)
        results[precomputed].append(made.head.get_layer("logits").kernel.numpy())
    for exact, cached in zip(results[False][:-1], results[True][:-1], strict=True):
        assert cached[0] == pytest.approx(exact[0], rel=1e-3)
    np.testing.assert_allclose(results[True][-1], results[False][-1], atol=1e-3)


def test_the_epochs_take_the_views_in_turn(data_dir):
    records = prepared_data.read_records(data_dir, "test")
    arrays = tuple(np.full((records.count, 2), n, np.float32) for n in range(3))
    precomputed = prepared_data.with_features(
        records, arrays, np.zeros(records.count, np.int32)
    )
    seen = []
    for epoch in range(1, 6):
        made = make_train_dataset(precomputed, epoch=epoch, seed=1, **SIZES).take(
            num_batches(records.count, 8)
        )
        assert made.element_spec["image"] == tf.TensorSpec([8, 2], tf.float32)
        seen.append({float(v) for b in made for v in np.unique(b["image"])})
    assert seen == [{0.0}, {1.0}, {2.0}, {0.0}, {1.0}]


def test_where_finetune_has_no_room_the_head_has(data_dir, tmp_path, classifier):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer", f"--data_dir={data_dir}", "--batch_size=8", "--image_size=32"])
    config = from_flags(values)
    records = prepared_data.read_records(data_dir, "validation")
    finetune = find_frozen_prefix(classifier)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    head = find_frozen_prefix(classifier)
    inputs = [RegimeInput(head, frozenset()), RegimeInput(finetune, frozenset())]
    pooled = records.count * 256 * 4
    loaded = load_features(
        fakes.one_device_runtime(),
        config,
        make_cache(tmp_path, max_bytes=2 * pooled),
        classifier,
        inputs,
        train_images=records,
        val_images=records,
    )
    assert loaded[0].val_features.features[0].nbytes == pooled
    assert loaded[1].val_features is None
    assert [regime_input.val_features for regime_input in inputs] == [None, None]


def test_there_is_nothing_to_cut_in_pooled_features(data_dir, tmp_path, classifier):
    values = flags.FlagValues()
    define_flags(values)
    options = ["--regimes=finetune", "--mix=cutmix", "--cached_views=1"]
    values(["trainer", f"--data_dir={data_dir}", *options])
    config = from_flags(values)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    inputs = [RegimeInput(find_frozen_prefix(classifier), frozenset())]
    records = prepared_data.read_records(data_dir, "validation")
    with pytest.raises(ValueError, match="--mix=cutmix --cached_views=1"):
        load_features(
            fakes.one_device_runtime(),
            config,
            make_cache(tmp_path),
            classifier,
            inputs,
            train_images=records,
            val_images=records,
        )
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_a_run_is_what_its_features_depend_on(data_dir, tmp_path):
    config = _flags_config(data_dir, "--recipe=notebook")

    def key(**changes):
        changed = dataclasses.replace(config, **changes)
        return cache_from_config(changed, tmp_path).fingerprint

    same = {"head_units": 7, "head_lr": 0.5, "dropout": 0.5, "head_epochs": 1}
    for cache in ("off", "disk"):
        assert key(**same, cache=cache) == key()
    for name, value in {
        "backbone": "MobileNet",
        "backbone_args": {"alpha": 0.5},
        "image_size": 96,
    }.items():
        assert key(**{name: value}) != key(), name


def _flags_config(data_dir, *more):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer", f"--data_dir={data_dir}", *more])
    return from_flags(values)


@pytest.mark.parametrize(
    ("cache_gb", "more", "expected"),
    [
        # A view of 77 images of 2 x 2 x 128 float32, and of their 256 pooled values.
        (20, (), 4),
        (3.1 * 77 * 4 * 768 / 1e9, (), 3),
        (1.9 * 77 * 4 * 768 / 1e9, (), 0),
        (20, ("--data_service=grpc://host:1",), 0),
        (20, ("--mix=cutmix",), 0),
    ],
)
def test_there_are_as_many_views_as_have_room(data_dir, cache_gb, more, expected):
    classifier = fakes.restore_classifier()
    config = _flags_config(data_dir, f"--cache_gb={cache_gb}", *more)
    config = dataclasses.replace(config, freeze_layers=FROZEN_LAYERS)
    inputs = plan_inputs(classifier, make_regimes(config))
    assert resolve_views(config, inputs, num_images=77) == expected
