import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import fakes
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from pipeline import prepare
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_train_dataset
from pipeline.loading.order import Share, mix_seed, num_batches
from trainer.config.flags import define_flags, from_flags
from trainer.distribution.preemption import Stopped, StopSignal
from trainer.evaluation import evaluate
from trainer.features import array_file, cache_dir
from trainer.features.cache import _compute, cache_features, cache_images
from trainer.features.cache_dir import FeatureCache
from trainer.features.extraction import PrefixExtractor, View
from trainer.features.plan import RegimeInput, cache_from_config, load_prefix_features
from trainer.models import freezing
from trainer.models.frozen_prefix import find_frozen_prefix
from trainer.training.optimizer import make_optimizer
from trainer.training.step import make_train_steps

SIZES = {"image_size": 32, "batch_size": 8}
FREEZE = 60


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    base = tmp_path_factory.mktemp("features")
    source = fakes.write_folder(base / "photos", per_class=33)
    prepare.prepare(str(source), str(base / "data"))
    return str(base / "data")


@pytest.fixture
def classifier():
    with fakes.one_device_runtime().strategy.scope():
        made = fakes.make_classifier()
    freezing.freeze(made.backbone, FREEZE)
    return made


def _cache(directory, **changes) -> FeatureCache:
    settings = {"max_bytes": 10**9, "fingerprint": {"data": 1}}
    return FeatureCache(pathlib.Path(directory), **settings | changes)


def _cross(
    cache, classifier, records, *, frozen_prefixes=None, folded=False, **options
):
    settings = {"split": "train", "views": [View()]}
    extractor = PrefixExtractor(
        fakes.one_device_runtime(),
        classifier,
        frozen_prefixes or [find_frozen_prefix(classifier)],
        folded,
    )
    return cache_features(
        extractor,
        cache,
        records,
        **SIZES,
        **settings | options,
    )


def _pixels(records):
    """float32 [N, 32, 32, 3] and labels, in stored order, by another way."""
    from pipeline import decoding

    examples = list(records.dataset.as_numpy_iterator())
    images = [decoding.decode_and_resize(e["image_bytes"], 32) for e in examples]
    return tf.stack(images), np.array([e["label"] for e in examples])


def test_features_are_what_the_prefix_makes_of_each_image_in_its_place(
    classifier, data_dir, tmp_path
):
    records = prepared_data.read_records(data_dir, "train")
    found = find_frozen_prefix(classifier)
    (precomputed,) = _cross(_cache(tmp_path), classifier, records)
    images, labels = _pixels(records)
    assert precomputed.count == records.count == len(labels)
    wanted = found.prefix(classifier.normalise(images), training=False)
    (view,) = precomputed.features
    assert view.dtype == np.float32
    np.testing.assert_allclose(view, wanted, atol=2e-4)
    rows = list(precomputed.dataset.as_numpy_iterator())
    assert [row["label"] for row in rows] == labels.tolist()
    assert [row["position"] for row in rows] == list(range(records.count))


def test_one_pass_serves_two_frontiers(classifier, data_dir, tmp_path, monkeypatch):
    records = prepared_data.read_records(data_dir, "validation")
    finetune = find_frozen_prefix(classifier)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    head = find_frozen_prefix(classifier)
    passes = []
    map_examples = evaluate.map_examples
    monkeypatch.setattr(
        evaluation,
        "map_examples",
        lambda *args, **options: passes.append(1) or map_examples(*args, **options),
    )
    precomputed = _cross(
        _cache(tmp_path), classifier, records, frozen_prefixes=[finetune, head]
    )
    assert len(passes) == 1
    pooled = finetune.suffix(precomputed[0].features[0], training=False)
    np.testing.assert_allclose(
        precomputed[1].features[0], tf.reduce_mean(pooled, axis=(1, 2)), atol=2e-4
    )


def test_folding_changes_next_to_nothing(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    (plain,) = _cross(_cache(tmp_path / "a"), classifier, records)
    (folded,) = _cross(_cache(tmp_path / "b"), classifier, records, folded=True)
    scale = np.abs(plain.features[0]).max()
    np.testing.assert_allclose(
        folded.features[0] / scale, plain.features[0] / scale, atol=1e-4
    )
    assert not np.array_equal(folded.features[0], plain.features[0])


def _train(classifier, records, *, precomputed, epochs):
    run = fakes.one_device_runtime()
    optimizer = make_optimizer(
        run,
        classifier,
        learning_rate=0.002,
        momentum=0.9,
        schedule="constant",
        total_steps=100,
    )
    train_steps = make_train_steps(
        run,
        classifier,
        optimizer,
        build_augmenter("notebook"),
        train_batch_norm=False,
        frozen_prefix=find_frozen_prefix(classifier),
        precomputed=precomputed,
    )
    return fakes.train(run, train_steps, records, epochs=epochs, seed=4, **SIZES)


def _views(count):
    return [View("notebook", mix_seed(4, view + 1)) for view in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [FREEZE, 86])
def test_as_many_views_as_epochs_are_the_exact_run(data_dir, tmp_path, freeze):
    records = prepared_data.read_records(data_dir, "train")
    results = {}
    for precomputed in (False, True):
        with fakes.one_device_runtime().strategy.scope():
            made = fakes.make_classifier()
        freezing.freeze(made.backbone, freeze)
        read = records
        if precomputed:
            (read,) = _cross(_cache(tmp_path), made, records, views=_views(3))
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


def test_cached_batches_have_the_order_of_decoded_ones(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "train")
    (precomputed,) = _cross(_cache(tmp_path), classifier, records)
    steps = 2 * num_batches(records.count, 8)
    for epoch in (1, 2):
        options = {"epoch": epoch, "seed": 9, **SIZES}
        pairs = zip(
            make_train_dataset(records, **options).take(steps),
            make_train_dataset(precomputed, **options).take(steps),
            strict=True,
        )
        for decoded, cached in pairs:
            for key in ("label", "weight", "position"):
                np.testing.assert_array_equal(cached[key], decoded[key])
            np.testing.assert_array_equal(
                cached["image"], precomputed.features[0][cached["position"]]
            )


def test_what_is_there_is_found_and_what_depends_on_something_else_is_not(
    classifier, data_dir, tmp_path, monkeypatch
):
    records = prepared_data.read_records(data_dir, "test")
    computed = []
    compute = _compute
    monkeypatch.setattr(
        features,
        "_compute",
        lambda *args, **options: computed.append(1) or compute(*args, **options),
    )
    cache = _cache(tmp_path)

    def computes(cache=cache, **options):
        before = len(computed)
        found = _cross(cache, classifier, records, **options)
        return len(computed) > before, found

    first, (precomputed,) = computes()
    again, (found,) = computes()
    assert (first, again) == (True, False)
    np.testing.assert_array_equal(found.features[0], precomputed.features[0])
    # A head of its own changes nothing.
    kernel = classifier.head.get_layer("logits").kernel
    kernel.assign(kernel + 1)
    assert not computes()[0]
    assert computes(views=[View("notebook", 1)])[0]
    assert computes(views=[View("notebook", 2)])[0]
    assert not computes(views=[View("notebook", 1), View("notebook", 2)])[0]
    assert computes(folded=True)[0]
    assert computes(split="validation")[0]
    assert computes(cache=_cache(tmp_path, fingerprint={"data": 2}))[0]
    frozen = classifier.backbone.get_layer("conv1").kernel
    frozen.assign(frozen * 1.5)
    assert computes()[0]


def test_too_little_room_is_said_before_anything_is_written(
    classifier, data_dir, tmp_path, monkeypatch
):
    records = prepared_data.read_records(data_dir, "train")
    with pytest.raises(ValueError, match=r"--cached_views=2 --cache_gb=0\.0001"):
        _cross(
            _cache(tmp_path, max_bytes=100_000),
            classifier,
            records,
            views=[View("notebook", 1), View("notebook", 2)],
        )
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr(cache_dir.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=f"--cache_dir={tmp_path}"):
        _cross(_cache(tmp_path), classifier, records)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_what_was_used_longest_ago_makes_room(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    one = records.count * 2 * 2 * 128 * 4
    for seed in (1, 2, 3):
        (precomputed,) = _cross(
            _cache(tmp_path, max_bytes=int(2.5 * one)),
            classifier,
            records,
            views=[View("notebook", seed)],
        )
        assert precomputed.features[0].nbytes == one
        time.sleep(0.02)
    assert len(list(tmp_path.glob("*.features"))) == 2
    sizes = {path.stat().st_size for path in tmp_path.glob("*.features")}
    assert sizes == {one + array_file.CHECKSUM_BYTES}


def test_what_does_not_fit_in_memory_is_mapped(
    classifier, data_dir, tmp_path, monkeypatch
):
    records = prepared_data.read_records(data_dir, "test")
    (in_memory,) = _cross(_cache(tmp_path), classifier, records)
    assert not isinstance(in_memory.features[0], np.memmap)
    monkeypatch.setattr(cache_dir, "MEMORY_FRACTION", 0.0)
    (mapped,) = _cross(_cache(tmp_path), classifier, records)
    assert isinstance(mapped.features[0], np.memmap)
    np.testing.assert_array_equal(mapped.features[0], in_memory.features[0])
    assert not mapped.features[0].flags.writeable


def test_what_is_lacking_alone_is_written(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    finetune = find_frozen_prefix(classifier)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    both = [finetune, find_frozen_prefix(classifier)]
    options = {
        "frozen_prefixes": both,
        "views": [View("notebook", 1), View("notebook", 2)],
    }
    first = _cross(_cache(tmp_path), classifier, records, **options)
    paths = sorted(tmp_path.glob("*.features"), key=lambda path: path.stat().st_size)
    lost, *others = paths
    lost.unlink()
    before = [path.stat().st_ino for path in others]
    again = _cross(_cache(tmp_path), classifier, records, **options)
    assert [path.stat().st_ino for path in others] == before
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.features, other.features)


def test_who_waits_for_another_run_can_be_stopped(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    asked = StopSignal([signal.SIGTERM])
    extractor = PrefixExtractor(
        fakes.one_device_runtime(), classifier, [find_frozen_prefix(classifier)], 0
    )
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Stopped):
            cache_features(
                extractor,
                _cache(tmp_path),
                records,
                split="test",
                views=[View()],
                requests=asked,
                **SIZES,
            )


def test_a_disk_that_is_full_all_the_same_is_said(
    classifier, data_dir, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    records = prepared_data.read_records(data_dir, "test")
    monkeypatch.setattr(cache_dir.os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left"):
        _cross(_cache(tmp_path), classifier, records)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_free_memory_is_what_the_container_has_left(tmp_path, monkeypatch):
    limit, used = tmp_path / "limit", tmp_path / "used"
    monkeypatch.setattr(cache_dir, "_MEMORY_LIMITS", [(limit, used)])
    without = cache_dir.free_memory()
    assert without > 10**6
    limit.write_text("max\n")
    used.write_text("3000\n")
    assert cache_dir.free_memory() > 10**6
    limit.write_text("5000\n")
    assert cache_dir.free_memory() == 2000


def test_where_finetune_has_no_room_the_head_has(data_dir, tmp_path, classifier):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer", f"--data_dir={data_dir}", "--batch_size=8", "--image_size=32"])
    settings = from_flags(values)
    records = prepared_data.read_records(data_dir, "validation")
    finetune = find_frozen_prefix(classifier)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    head = find_frozen_prefix(classifier)
    plan = [RegimeInput(head, frozenset()), RegimeInput(finetune, frozenset())]
    pooled = records.count * 256 * 4
    load_prefix_features(
        fakes.one_device_runtime(),
        settings,
        _cache(tmp_path, max_bytes=2 * pooled),
        classifier,
        plan,
        train_records=records,
        val_records=records,
    )
    assert plan[0].val_records.features[0].nbytes == pooled
    assert plan[1].val_records is None


def test_there_is_nothing_to_cut_in_pooled_features(data_dir, tmp_path, classifier):
    values = flags.FlagValues()
    define_flags(values)
    given = ["--regimes=finetune", "--mix=cutmix", "--cached_views=1"]
    values(["trainer", f"--data_dir={data_dir}", *given])
    settings = from_flags(values)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    plan = [RegimeInput(find_frozen_prefix(classifier), frozenset())]
    records = prepared_data.read_records(data_dir, "validation")
    with pytest.raises(ValueError, match="--mix=cutmix --cached_views=1"):
        load_prefix_features(
            fakes.one_device_runtime(),
            settings,
            _cache(tmp_path),
            classifier,
            plan,
            train_records=records,
            val_records=records,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_file_is_none(classifier, data_dir, tmp_path, monkeypatch):
    records = prepared_data.read_records(data_dir, "test")
    map_examples = evaluate.map_examples

    def stop_early(*args, **options):
        yield next(map_examples(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "map_examples", stop_early)
    with pytest.raises(KeyboardInterrupt):
        _cross(_cache(tmp_path), classifier, records)
    assert list(tmp_path.glob("*.features")) == []
    # As kill -9 leaves it.
    ended = subprocess.Popen(["true"])
    ended.wait()
    left_behind = f".0123.features.tmp-{platform.node()}-{ended.pid}"
    (tmp_path / left_behind).write_bytes(b"half")
    # As another worker, or a run on a file system without locks, is writing it.
    in_use = tmp_path / f".0456.features.tmp-{platform.node()}-{os.getpid()}"
    in_use.write_bytes(b"half")
    elsewhere = tmp_path / ".0789.features.tmp-elsewhere-1"
    elsewhere.write_bytes(b"half")
    monkeypatch.setattr(evaluate, "map_examples", map_examples)
    (precomputed,) = _cross(_cache(tmp_path), classifier, records)
    assert np.abs(precomputed.features[0]).max() > 0
    assert set(tmp_path.glob(".*.tmp-*")) == {in_use, elsewhere}
    # As a copy that was cut short.
    (whole,) = tmp_path.glob("*.features")
    content = whole.read_bytes()
    whole.write_bytes(content[:-10])
    (labels,) = tmp_path.glob("labels-*")
    known = labels.read_bytes()
    labels.write_bytes(known[:-3])
    (again,) = _cross(_cache(tmp_path), classifier, records)
    np.testing.assert_array_equal(again.features[0], precomputed.features[0])
    assert whole.read_bytes() == content
    assert labels.read_bytes() == known
    # As a disk that is wearing out.
    for path, good in ((whole, content), (labels, known)):
        path.write_bytes(good[:20] + bytes([good[20] ^ 1]) + good[21:])
    (again,) = _cross(_cache(tmp_path), classifier, records)
    np.testing.assert_array_equal(again.features[0], precomputed.features[0])
    assert (whole.read_bytes(), labels.read_bytes()) == (content, known)


def test_the_key_of_a_run_is_what_its_features_depend_on(data_dir, tmp_path):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer", f"--data_dir={data_dir}"])
    settings = from_flags(values)

    def key(**changes):
        changed = dataclasses.replace(settings, **changes)
        return cache_from_config(changed, tmp_path).fingerprint

    same = {"head_units": 7, "head_lr": 0.5, "dropout": 0.5, "head_epochs": 1}
    assert key(**same, cache="off") == key()
    for name, value in {
        "backbone": "MobileNet",
        "backbone_args": {"alpha": 0.5},
        "image_size": 96,
        "cache": "disk",  # whose pixels are rounded
    }.items():
        assert key(**{name: value}) != key(), name


def _cache_images(cache, records):
    return cache_images(
        fakes.one_device_runtime(),
        cache,
        records,
        split="train",
        **SIZES,
    )


def test_decoded_images_are_kept_rounded(data_dir, tmp_path, monkeypatch):
    records = prepared_data.read_records(data_dir, "train")
    cache = _cache(tmp_path, fingerprint={"data": 1, "backbone": "one"})
    kept = _cache_images(cache, records)
    images, _ = _pixels(records)
    assert kept.features[0].dtype == np.uint8
    np.testing.assert_array_equal(kept.features[0], tf.round(images))
    options = {"epoch": 3, "seed": 9, **SIZES}
    pairs = zip(
        make_train_dataset(records, **options).take(20),
        make_train_dataset(kept, **options).take(20),
        strict=True,
    )
    for decoded, cached in pairs:
        assert cached["image"].dtype == tf.float32
        np.testing.assert_allclose(cached["image"], decoded["image"], atol=0.5)
        for key in ("label", "weight", "position"):
            np.testing.assert_array_equal(cached[key], decoded[key])
    # Another backbone finds them; other data do not.
    monkeypatch.setattr(evaluate, "map_examples", None)
    _cache_images(_cache(tmp_path, fingerprint={"data": 1, "backbone": 2}), records)
    with pytest.raises(TypeError):
        _cache_images(_cache(tmp_path, fingerprint={"data": 2}), records)
    small = _cache(tmp_path, max_bytes=100_000, fingerprint={"data": 3})
    with pytest.raises(ValueError, match=r"--cache=disk --cache_gb=0\.0001"):
        _cache_images(small, records)


def _command(data_dir, model_dir, *more):
    return [
        "-m",
        "trainer.main",
        *fakes.TINY_MODEL_FLAGS,
        f"--data_dir={data_dir}",
        f"--model_dir={model_dir}",
        "--freeze_layers=60",
        "--head_epochs=2",
        "--finetune_epochs=2",
        "--finetune_batch_norm=frozen",
        # At larger rates so small a network makes much of how numbers round.
        "--head_lr=0.002",
        "--finetune_lr=0.001",
        "--dropout=0",  # whose masks are each replica's own
        *more,
    ]


def _losses(model_dir):
    lines = (model_dir / "metrics.jsonl").read_text().splitlines()
    return [
        [line[key] for key in ("train_loss", "val_loss", "train_accuracy")]
        for line in map(json.loads, lines)
    ]


@pytest.mark.slow
def test_a_whole_run_on_views_is_the_exact_run_on_any_number_of_replicas(
    data_dir, tmp_path
):
    views = ["--cached_views=4", "--nofold_frozen", f"--cache_dir={tmp_path / 'c'}"]
    runs = {
        "exact": ["--nofold_frozen"],
        "cached": views,
        "two replicas": ["--cached_views=4", "--nofold_frozen", "--virtual_devices=2"],
        "again": views,
    }
    for name, more in runs.items():
        done = fakes.run(*_command(data_dir, tmp_path / name, *more))
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("train features view 4/4" in done.stderr) == (
            name in ("cached", "two replicas")
        )
        found = _losses(tmp_path / name)
        np.testing.assert_allclose(found, _losses(tmp_path / "exact"), rtol=2e-3)
        assert not (tmp_path / name / "features").exists()
    assert (tmp_path / "again" / "metrics.jsonl").exists()
    np.testing.assert_array_equal(
        _losses(tmp_path / "again"), _losses(tmp_path / "cached")
    )
    codes, outputs = _run_two_workers(data_dir, tmp_path / "two workers", views)
    assert codes == [0, 0], outputs
    np.testing.assert_allclose(
        _losses(tmp_path / "two workers"), _losses(tmp_path / "exact"), rtol=2e-3
    )


@pytest.mark.slow
def test_prepared_data_outlive_a_lack_of_room(tmp_path):
    photographs = fakes.write_folder(tmp_path / "photos", per_class=33)
    run_dir = tmp_path / "run"
    command = [
        *("-m", "trainer.main", *fakes.TINY_MODEL_FLAGS, "--regimes=head"),
        *("--head_epochs=1", "--cached_views=1"),
        *(f"--source={photographs}", f"--model_dir={run_dir}"),
    ]
    done = fakes.run(*command, "--cache_gb=0.000001")
    assert done.returncode == 1
    assert "--cache_gb=1e-06" in done.stderr.splitlines()[-1]
    assert [path.name for path in run_dir.iterdir()] == ["data"]
    splits = run_dir / "data" / "splits.csv"
    written = splits.stat().st_mtime_ns
    done = fakes.run(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert splits.stat().st_mtime_ns == written


@pytest.mark.slow
def test_what_is_kept_between_epochs_changes_no_run(data_dir, tmp_path):
    for name in ("memory", "off", "disk"):
        more = [f"--cache={name}", "--augment=none"]
        done = fakes.run(*_command(data_dir, tmp_path / name, *more))
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("train images" in done.stderr) == (name == "disk")
    memory = _losses(tmp_path / "memory")
    np.testing.assert_array_equal(_losses(tmp_path / "off"), memory)
    # So small a network of random weights makes much of half a grey level; that the
    # batches are the same but for it another test holds.
    disk = _losses(tmp_path / "disk")
    assert disk != memory
    np.testing.assert_allclose(disk[0][:2], memory[0][:2], rtol=0.3)
    assert not (tmp_path / "disk" / "features").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_crosses_on_two_replicas_as_on_one(
    data_dir, tmp_path, precision
):
    for replicas in (1, 2):
        done = fakes.run(
            *_command(data_dir, tmp_path / str(replicas)),
            f"--precision={precision}",
            f"--virtual_devices={replicas}",
            "--cached_views=1",
            "--regimes=head",
        )
        assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(
        _losses(tmp_path / "2"), _losses(tmp_path / "1"), rtol=0.02
    )


_BFLOAT16_HEAD = ("--precision=mixed_bfloat16", "--cached_views=2", "--regimes=head")


def _run_two_workers(data_dir, model_dir, more, second_workers_flags=()):
    command = _command(data_dir, model_dir, *more)
    return fakes.run_workers(command, [*command, *second_workers_flags])


@pytest.mark.slow
@pytest.mark.parametrize("disks", ["one", "two"])
def test_each_worker_computes_and_keeps_its_share(data_dir, tmp_path, disks):
    """In bfloat16, which no collective takes."""
    one, two = tmp_path / "cache", tmp_path / disks
    ended = subprocess.Popen(["true"])
    ended.wait()
    for directory in (one, two):
        directory.mkdir(exist_ok=True)
        left_behind = f".0123.features.tmp-{platform.node()}-{ended.pid}"
        (directory / left_behind).write_bytes(b"half")
    flags = [*_BFLOAT16_HEAD, f"--cache_dir={one}"]
    codes, outputs = _run_two_workers(
        data_dir, tmp_path / "run", flags, [f"--cache_dir={two}"]
    )
    assert codes == [0, 0], outputs
    counts = prepared_data.read_info(data_dir).counts
    assert counts["train"] % 2, "the shares must differ for this test to test"
    for index, directory in enumerate((one, two)):
        share = f"-{index:05d}-of-00002"
        sizes = sorted(
            path.stat().st_size for path in directory.glob(f"*{share}.features")
        )
        ours = {
            split: len(Share(2, index).positions(count))
            for split, count in counts.items()
        }
        # Pooled, of 256 channels: two views of train, one of validation.
        rows = [ours["validation"], ours["train"], ours["train"]]
        assert sizes == [2 * 256 * n + array_file.CHECKSUM_BYTES for n in rows]
        if disks == "two":
            assert len(list(directory.glob("*.features"))) == 3
        assert not list(directory.glob(".*.tmp-*"))
    alone = tmp_path / "alone"
    done = fakes.run(*_command(data_dir, alone, *_BFLOAT16_HEAD))
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(_losses(tmp_path / "run"), _losses(alone), rtol=0.02)


@pytest.mark.slow
def test_there_may_be_more_workers_than_validation_images(data_dir, tmp_path):
    rows, seen = [], set()
    for row in (pathlib.Path(data_dir) / "splits.csv").read_text().splitlines():
        label = row.partition("/")[0]
        if row.endswith(",validation") and label in seen:
            row = row.removesuffix("validation") + "train"
        elif row.endswith(",validation"):
            seen.add(label)
        rows.append(f"{row}\n")
    (tmp_path / "splits.csv").write_text("".join(rows))
    source = fakes.write_folder(tmp_path / "photos", per_class=33)
    few = str(tmp_path / "data")
    prepare.prepare(str(source), few, splits_from=str(tmp_path / "splits.csv"))
    assert prepared_data.read_info(few).counts["validation"] == 3
    found = {}
    for workers in (1, 4):
        run_dir = tmp_path / str(workers)
        command = _command(few, run_dir, "--cached_views=2", "--regimes=head")
        codes, outputs = fakes.run_workers(*[command] * workers)
        assert codes == [0] * workers, outputs
        found[workers] = _losses(run_dir)
    np.testing.assert_allclose(found[4], found[1], rtol=2e-3)


@pytest.mark.slow
def test_workers_on_one_disk_need_room_for_all_of_them(data_dir, tmp_path):
    counts = prepared_data.read_info(data_dir).counts
    needed = 2 * 2 * 256 * counts["train"]  # bytes of two views in half precision
    room = f"--cache_gb={0.75 * needed / 1e9}"
    codes, outputs = _run_two_workers(
        data_dir, tmp_path / "run", [*_BFLOAT16_HEAD, room]
    )
    assert 0 not in codes
    assert all(room in output for output in outputs)
    # On disks of their own half of it is enough for each.
    own = f"--cache_dir={tmp_path / 'own'}"
    codes, outputs = _run_two_workers(
        data_dir, tmp_path / "run", [*_BFLOAT16_HEAD, room], [own]
    )
    assert codes == [0, 0], outputs


@pytest.mark.slow
def test_a_worker_without_room_on_its_own_disk_ends_both(data_dir, tmp_path):
    own_disk = [f"--cache_dir={tmp_path / 'own'}", "--cache_gb=1e-9"]
    codes, outputs = _run_two_workers(
        data_dir, tmp_path / "two", _BFLOAT16_HEAD, own_disk
    )
    assert 0 not in codes
    assert "Another worker has no room for features." in outputs[0]
    assert "--cache_gb=1e-09" in outputs[1]


@pytest.mark.slow
def test_two_runs_at_once_and_one_killed_share_a_directory(data_dir, tmp_path):
    cache = f"--cache_dir={tmp_path / 'cache'}"

    def start(name):
        return subprocess.Popen(
            [
                sys.executable,
                *_command(data_dir, tmp_path / name, "--cached_views=3", cache),
            ],
            cwd=fakes.REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    victim = start("victim")
    while not list((tmp_path / "cache").glob(".*.tmp-*")):
        assert victim.poll() is None
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    both = {name: start(name) for name in ("one", "two")}
    outputs = {name: process.communicate()[0] for name, process in both.items()}
    for name, process in both.items():
        assert process.returncode == 0, outputs[name][-3000:]
    # What one computes the other finds.
    computed = [text.count("train features view 3/3") for text in outputs.values()]
    assert sorted(computed) == [0, 1]
    np.testing.assert_array_equal(_losses(tmp_path / "one"), _losses(tmp_path / "two"))
    assert list((tmp_path / "cache").glob(".*.tmp-*")) == []
