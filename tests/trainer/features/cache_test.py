"""Tests of computing, finding and repairing cached features."""

import hashlib
import os
import platform
import subprocess

import fakes
import keras
import numpy as np
import pytest
import tensorflow as tf
from fakes.features import SIZES, compute_features, make_cache
from PIL import Image

from pipeline import prepare
from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_train_dataset
from pipeline.loading.order import num_batches
from pipeline.splits.assign import SplitPlan
from trainer.evaluation import evaluate
from trainer.features import cache as features_cache
from trainer.features.cache import cache_images
from trainer.features.extraction import View
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix
from trainer.models.frozen_prefix import find_frozen_prefix


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
    (precomputed,) = compute_features(make_cache(tmp_path), classifier, records)
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
        evaluate,
        "map_examples",
        lambda *args, **options: passes.append(1) or map_examples(*args, **options),
    )
    precomputed = compute_features(
        make_cache(tmp_path), classifier, records, frozen_prefixes=[finetune, head]
    )
    assert len(passes) == 1
    pooled = finetune.suffix(precomputed[0].features[0], training=False)
    np.testing.assert_allclose(
        precomputed[1].features[0], tf.reduce_mean(pooled, axis=(1, 2)), atol=2e-4
    )


def test_folding_changes_next_to_nothing(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    (plain,) = compute_features(make_cache(tmp_path / "a"), classifier, records)
    (folded,) = compute_features(
        make_cache(tmp_path / "b"), classifier, records, folded=True
    )
    scale = np.abs(plain.features[0]).max()
    np.testing.assert_allclose(
        folded.features[0] / scale, plain.features[0] / scale, atol=1e-4
    )
    assert not np.array_equal(folded.features[0], plain.features[0])


def test_cached_batches_have_the_order_of_decoded_ones(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "train")
    (precomputed,) = compute_features(make_cache(tmp_path), classifier, records)
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


@pytest.mark.slow
def test_what_is_there_is_found_and_what_depends_on_something_else_is_not(
    classifier, data_dir, tmp_path, monkeypatch
):
    records = prepared_data.read_records(data_dir, "test")
    computed = []
    compute = features_cache.compute_view
    monkeypatch.setattr(
        features_cache,
        "compute_view",
        lambda *args, **options: computed.append(1) or compute(*args, **options),
    )
    cache = make_cache(tmp_path)

    def computes(cache=cache, **options):
        before = len(computed)
        found = compute_features(cache, classifier, records, **options)
        return len(computed) > before, found

    first, (precomputed,) = computes()
    again, (found,) = computes()
    assert (first, again) == (True, False)
    np.testing.assert_array_equal(found.features[0], precomputed.features[0])
    # A head of its own changes nothing.
    kernel = classifier.head.get_layer("logits").kernel
    kernel.assign(kernel + 1)
    assert not computes()[0]
    assert computes(views=[View("basic", 1)])[0]
    assert computes(views=[View("basic", 2)])[0]
    assert not computes(views=[View("basic", 1), View("basic", 2)])[0]
    assert computes(folded=True)[0]
    assert computes(split="validation")[0]
    assert computes(cache=make_cache(tmp_path, fingerprint={"data": 2}))[0]
    frozen = classifier.backbone.get_layer("conv1").kernel
    frozen.assign(frozen * 1.5)
    assert computes()[0]


def test_what_is_lacking_alone_is_written(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    finetune = find_frozen_prefix(classifier)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    both = [finetune, find_frozen_prefix(classifier)]
    options = {
        "frozen_prefixes": both,
        "views": [View("basic", 1), View("basic", 2)],
    }
    first = compute_features(make_cache(tmp_path), classifier, records, **options)
    paths = sorted(tmp_path.glob("*.features"), key=lambda path: path.stat().st_size)
    lost, *others = paths
    lost.unlink()
    before = [path.stat().st_ino for path in others]
    again = compute_features(make_cache(tmp_path), classifier, records, **options)
    assert [path.stat().st_ino for path in others] == before
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.features, other.features)


def test_a_half_written_file_is_none(classifier, data_dir, tmp_path, monkeypatch):
    records = prepared_data.read_records(data_dir, "test")
    map_examples = evaluate.map_examples

    def stop_early(*args, **options):
        yield next(map_examples(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "map_examples", stop_early)
    with pytest.raises(KeyboardInterrupt):
        compute_features(make_cache(tmp_path), classifier, records)
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
    (precomputed,) = compute_features(make_cache(tmp_path), classifier, records)
    assert np.abs(precomputed.features[0]).max() > 0
    assert set(tmp_path.glob(".*.tmp-*")) == {in_use, elsewhere}
    # As a copy that was cut short.
    (whole,) = tmp_path.glob("*.features")
    content = whole.read_bytes()
    whole.write_bytes(content[:-10])
    (labels,) = tmp_path.glob("labels-*")
    known = labels.read_bytes()
    labels.write_bytes(known[:-3])
    (again,) = compute_features(make_cache(tmp_path), classifier, records)
    np.testing.assert_array_equal(again.features[0], precomputed.features[0])
    assert whole.read_bytes() == content
    assert labels.read_bytes() == known
    # As a disk that is wearing out.
    for path, good in ((whole, content), (labels, known)):
        path.write_bytes(good[:20] + bytes([good[20] ^ 1]) + good[21:])
    (again,) = compute_features(make_cache(tmp_path), classifier, records)
    np.testing.assert_array_equal(again.features[0], precomputed.features[0])
    assert (whole.read_bytes(), labels.read_bytes()) == (content, known)


def _cache_images(cache, records):
    return cache_images(
        fakes.one_device_runtime(),
        cache,
        records,
        split="train",
        **SIZES,
    )


def test_decoded_images_are_kept(data_dir, tmp_path, monkeypatch):
    records = prepared_data.read_records(data_dir, "train")
    cache = make_cache(tmp_path, fingerprint={"data": 1, "backbone": "one"})
    kept = _cache_images(cache, records)
    images, _ = _pixels(records)
    assert kept.features[0].dtype == np.uint8
    np.testing.assert_array_equal(kept.features[0], images)
    options = {"epoch": 3, "seed": 9, **SIZES}
    pairs = zip(
        make_train_dataset(records, **options).take(20),
        make_train_dataset(kept, **options).take(20),
        strict=True,
    )
    for decoded, cached in pairs:
        assert cached["image"].dtype == tf.uint8
        assert set(cached) == {"image", "label", "weight", "position"}
        for key in cached:
            np.testing.assert_array_equal(cached[key], decoded[key])
    # Another backbone finds them; other data do not.
    monkeypatch.setattr(evaluate, "map_examples", None)
    _cache_images(make_cache(tmp_path, fingerprint={"data": 1, "backbone": 2}), records)
    with pytest.raises(TypeError):
        _cache_images(make_cache(tmp_path, fingerprint={"data": 2}), records)
    small = make_cache(tmp_path, max_bytes=100_000, fingerprint={"data": 3})
    with pytest.raises(ValueError, match=r"--cache=disk --cache_gb=0\.0001"):
        _cache_images(small, records)


def test_the_format_number_belongs_to_these_features(tmp_path):
    """If this test fails, increase FEATURES_FORMAT and store the new hash.

    The features are means of 16 x 16 pixels, rounded to multiples of 8: the rounding
    errors of another processor do not change them, and another decoding, augmentation
    or order of the rows does.
    """
    rng = np.random.default_rng(3)
    (tmp_path / "photos").mkdir()
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir()
        for index in range(20):
            cells = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
            cells.resize((48, 40), Image.Resampling.BICUBIC).save(
                tmp_path / "photos" / label / f"{index}.png"
            )
    prepare.prepare(
        str(tmp_path / "photos"), str(tmp_path / "data"), plan=SplitPlan(seed=2)
    )
    records = prepared_data.read_records(str(tmp_path / "data"), "train")
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.AveragePooling2D(16)(inputs)
    prefix = FrozenPrefix("pooled", keras.Model(inputs, pooled), suffix=None)
    classifier = Classifier(lambda images: images, None, None, None)
    (features,) = compute_features(
        make_cache(tmp_path / "cache"),
        classifier,
        records,
        frozen_prefixes=[prefix],
        views=[View(), View("strong", 5)],
    )
    rounded = np.round(np.stack(features.features) / 8).astype(np.int8)
    digest = hashlib.sha256(rounded.tobytes()).hexdigest()
    assert (features_cache.FEATURES_FORMAT, digest[:16]) == (2, "07e11ac5e75b0c26")
