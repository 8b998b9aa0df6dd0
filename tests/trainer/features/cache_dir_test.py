"""Tests of the limits of the cache directory: disk, memory, lock."""

import dataclasses
import errno
import fcntl
import signal
import time

import fakes
import numpy as np
import pytest
from fakes.features import SIZES, compute_features, make_cache

from pipeline.loading import prepared_data
from trainer.distribution.preemption import Stopped, StopSignal
from trainer.features import array_file, cache_dir
from trainer.features.cache import cache_features
from trainer.features.extraction import PrefixExtractor, View
from trainer.models.frozen_prefix import find_frozen_prefix


def test_too_little_room_is_said_before_anything_is_written(
    classifier, data_dir, tmp_path, monkeypatch
):
    records = prepared_data.read_records(data_dir, "train")
    with pytest.raises(ValueError, match=r"--cached_views=2 --cache_gb=0\.0001"):
        compute_features(
            make_cache(tmp_path, max_bytes=100_000),
            classifier,
            records,
            views=[View("basic", 1), View("basic", 2)],
        )
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr(cache_dir.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=f"--cache_dir={tmp_path}"):
        compute_features(make_cache(tmp_path), classifier, records)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_what_was_used_longest_ago_makes_room(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    one = records.count * 2 * 2 * 128 * 4
    for seed in (1, 2, 3):
        (precomputed,) = compute_features(
            make_cache(tmp_path, max_bytes=int(2.5 * one)),
            classifier,
            records,
            views=[View("basic", seed)],
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
    (in_memory,) = compute_features(make_cache(tmp_path), classifier, records)
    assert not isinstance(in_memory.features[0], np.memmap)
    monkeypatch.setattr(cache_dir, "MEMORY_FRACTION", 0.0)
    (mapped,) = compute_features(make_cache(tmp_path), classifier, records)
    assert isinstance(mapped.features[0], np.memmap)
    np.testing.assert_array_equal(mapped.features[0], in_memory.features[0])
    assert not mapped.features[0].flags.writeable


def test_who_waits_for_another_run_can_be_stopped(classifier, data_dir, tmp_path):
    records = prepared_data.read_records(data_dir, "test")
    runtime = dataclasses.replace(
        fakes.one_device_runtime(), stop_signal=StopSignal([signal.SIGTERM])
    )
    extractor = PrefixExtractor(
        runtime, classifier, [find_frozen_prefix(classifier)], 0
    )
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Stopped):
            cache_features(
                extractor,
                make_cache(tmp_path),
                records,
                split="test",
                views=[View()],
                **SIZES,
            )


def test_a_disk_that_is_full_all_the_same_is_said(
    classifier, data_dir, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    records = prepared_data.read_records(data_dir, "test")
    monkeypatch.setattr(array_file.os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left"):
        compute_features(make_cache(tmp_path), classifier, records)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_free_memory_is_what_the_container_has_left(tmp_path, monkeypatch):
    limit, used = tmp_path / "limit", tmp_path / "used"
    monkeypatch.setattr(cache_dir, "_MEMORY_LIMITS", [(limit, used)])
    without = cache_dir.count_free_memory_bytes()
    assert without > 10**6
    limit.write_text("max\n")
    used.write_text("3000\n")
    assert cache_dir.count_free_memory_bytes() > 10**6
    limit.write_text("5000\n")
    assert cache_dir.count_free_memory_bytes() == 2000
