"""Tests of cached features in whole runs, on replicas and on workers."""

import functools
import json
import pathlib
import platform
import shutil
import subprocess
import time

import fakes
import numpy as np
import pytest

from pipeline import prepare
from pipeline.loading import prepared_data
from pipeline.splits.assign import SplitPlan
from trainer.features import array_file


def _command(data_dir, model_dir, *more):
    return [
        *(fakes.TRAIN_ONLY, "--epochs_only"),
        *fakes.SHALLOW_MODEL_FLAGS,
        f"--data_dir={data_dir}",
        f"--model_dir={model_dir}",
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
    views = ["--cached_views=4", "--nofuse_batch_norm", f"--cache_dir={tmp_path / 'c'}"]
    runs = {
        "exact": ["--nofuse_batch_norm"],
        "cached": views,
        "two replicas": [
            "--cached_views=4",
            "--nofuse_batch_norm",
            "--virtual_devices=2",
        ],
    }
    commands = {
        name: _command(data_dir, tmp_path / name, *flags)
        for name, flags in runs.items()
    }
    # One run evaluates its best weights too, with features on two replicas.
    commands["two replicas"].remove("--epochs_only")
    jobs = [(command, None) for command in commands.values()]
    for name, done in zip(runs, fakes.run_forked(jobs), strict=True):
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("train features view 4/4" in done.stderr) == (name != "exact")
        found = _losses(tmp_path / name)
        np.testing.assert_allclose(found, _losses(tmp_path / "exact"), rtol=2e-3)
        assert not (tmp_path / name / "features").exists()
    codes, outputs = _run_two_workers(data_dir, tmp_path / "two workers", views)
    assert codes == [0, 0], outputs
    # Both wrote into one directory: two splits of each frozen part, four views of one.
    for share in ("-00000-of-00002", "-00001-of-00002"):
        assert len(list((tmp_path / "c").glob(f"*{share}.features"))) == 10
    np.testing.assert_allclose(
        _losses(tmp_path / "two workers"), _losses(tmp_path / "exact"), rtol=2e-3
    )


@pytest.mark.slow
def test_prepared_data_outlive_a_lack_of_room(tmp_path):
    photographs = fakes.write_folder(tmp_path / "photos", per_class=33)
    run_dir = tmp_path / "run"
    command = [
        *(fakes.TRAIN_ONLY, *fakes.SHALLOW_MODEL_FLAGS, "--regimes=head"),
        *("--head_epochs=1", "--cached_views=1", "--epochs_only"),
        *(f"--source={photographs}", f"--model_dir={run_dir}"),
    ]
    done = fakes.run_fork(*command, "--cache_gb=0.000001")
    assert done.returncode == 1
    assert "--cache_gb=1e-06" in done.stderr.splitlines()[-1]
    assert [path.name for path in run_dir.iterdir()] == ["data"]
    splits = run_dir / "data" / "splits.csv"
    written = splits.stat().st_mtime_ns
    done = fakes.run_fork(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert splits.stat().st_mtime_ns == written


@pytest.mark.slow
def test_what_is_kept_between_epochs_changes_no_run(data_dir, tmp_path):
    names = ("memory", "off", "disk")
    flags = ("--augment=none", "--regimes=head")
    jobs = [
        (_command(data_dir, tmp_path / name, f"--cache={name}", *flags), None)
        for name in names
    ]
    for name, done in zip(names, fakes.run_forked(jobs), strict=True):
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("train images" in done.stderr) == (name == "disk")
    memory = _losses(tmp_path / "memory")
    np.testing.assert_array_equal(_losses(tmp_path / "off"), memory)
    # Decoded images are rounded to bytes in any case.
    np.testing.assert_array_equal(_losses(tmp_path / "disk"), memory)
    assert not (tmp_path / "disk" / "features").exists()


@pytest.fixture(scope="module")
def one_replica(data_dir, tmp_path_factory):
    """precision -> the losses of a head on cached features, on one replica."""
    base = tmp_path_factory.mktemp("one_replica")

    @functools.cache
    def train(precision):
        command = _command(data_dir, base / precision, *_half_head(precision))
        command.remove("--epochs_only")  # It evaluates too, in float32.
        done = fakes.run_fork(*command)
        assert done.returncode == 0, done.stderr[-3000:]
        return _losses(base / precision)

    return train


def _half_head(precision):
    return f"--precision={precision}", "--cached_views=2", "--regimes=head"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_features_are_the_same_on_two_replicas(
    data_dir, tmp_path, one_replica, precision
):
    command = _command(data_dir, tmp_path, *_half_head(precision))
    done = fakes.run_fork(*command, "--virtual_devices=2")
    assert done.returncode == 0, done.stderr[-3000:]
    np.testing.assert_allclose(_losses(tmp_path), one_replica(precision), rtol=0.02)


_BFLOAT16_HEAD = _half_head("mixed_bfloat16")


def _three_quarters_of_the_room(data_dir):
    """--cache_gb for three quarters of the two views in half precision."""
    counts = prepared_data.read_info(data_dir).counts
    return f"--cache_gb={0.75 * 2 * 2 * 64 * counts['train'] / 1e9}"


def _run_two_workers(data_dir, model_dir, more, second_workers_flags=()):
    command = _command(data_dir, model_dir, *more)
    return fakes.run_workers(command, [*command, *second_workers_flags])


@pytest.mark.slow
def test_each_worker_computes_and_caches_its_shard(data_dir, tmp_path, one_replica):
    """In bfloat16, which no collective takes; on disks with room for a share alone."""
    one, two = tmp_path / "one", tmp_path / "two"
    ended = subprocess.Popen(["true"])
    ended.wait()
    for directory in (one, two):
        directory.mkdir()
        left_behind = f".0123.features.tmp-{platform.node()}-{ended.pid}"
        (directory / left_behind).write_bytes(b"half")
    flags = [*_BFLOAT16_HEAD, _three_quarters_of_the_room(data_dir)]
    codes, outputs = _run_two_workers(
        data_dir,
        tmp_path / "run",
        [*flags, f"--cache_dir={one}"],
        [f"--cache_dir={two}"],
    )
    assert codes == [0, 0], outputs
    counts = prepared_data.read_info(data_dir).counts
    assert counts["train"] % 2, "the shares must differ for this test to test"
    for index, directory in enumerate((one, two)):
        share = f"-{index:05d}-of-00002"
        sizes = sorted(
            path.stat().st_size for path in directory.glob(f"*{share}.features")
        )
        ours = {split: len(range(index, count, 2)) for split, count in counts.items()}
        # Pooled, of 64 channels: two views of train, one of validation.
        rows = [ours["validation"], ours["train"], ours["train"]]
        assert sizes == [2 * 64 * n + array_file.CHECKSUM_BYTES for n in rows]
        assert len(list(directory.glob("*.features"))) == 3
        assert not list(directory.glob(".*.tmp-*"))
    np.testing.assert_allclose(
        _losses(tmp_path / "run"), one_replica("mixed_bfloat16"), rtol=0.02
    )


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
    shutil.rmtree(source / "stripe")
    few = str(tmp_path / "data")
    prepare.prepare(
        str(source), few, plan=SplitPlan(splits_from=str(tmp_path / "splits.csv"))
    )
    assert prepared_data.read_info(few).counts["validation"] == 2
    found = {}
    for workers in (1, 3):
        run_dir = tmp_path / str(workers)
        flags = ("--cached_views=2", "--regimes=head", "--batch_size=12")
        command = _command(few, run_dir, *flags)
        if workers == 3:  # They evaluate too.
            command.remove("--epochs_only")
        codes, outputs = fakes.run_workers(*[command] * workers)
        assert codes == [0] * workers, outputs
        found[workers] = _losses(run_dir)
    np.testing.assert_allclose(found[3], found[1], rtol=2e-3)


@pytest.mark.slow
def test_workers_on_one_disk_need_room_for_all_of_them(data_dir, tmp_path):
    room = _three_quarters_of_the_room(data_dir)
    codes, outputs = _run_two_workers(
        data_dir, tmp_path / "run", [*_BFLOAT16_HEAD, room]
    )
    assert 0 not in codes
    assert all(room in output for output in outputs)


@pytest.mark.slow
def test_a_worker_without_room_on_its_own_disk_ends_both(data_dir, tmp_path):
    own_disk = [f"--cache_dir={tmp_path / 'own'}", "--cache_gb=1e-9"]
    codes, outputs = _run_two_workers(
        data_dir, tmp_path / "two", _BFLOAT16_HEAD, own_disk
    )
    assert 0 not in codes
    assert "Another worker has no room for its features" in outputs[0]
    assert "--cache_gb=1e-09" in outputs[1]


@pytest.mark.slow
def test_two_runs_at_once_and_one_killed_share_a_directory(data_dir, tmp_path):
    cache = f"--cache_dir={tmp_path / 'cache'}"

    def start(name):
        command = _command(data_dir, tmp_path / name, "--cached_views=3", cache)
        return fakes.Forked(command)

    victim = start("victim")
    while not list((tmp_path / "cache").glob(".*.tmp-*")):
        assert victim.poll() is None
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    both = [start(name) for name in ("one", "two")]
    for process in both:
        assert process.wait() == 0, process.log[-3000:]
    # What one computes the other finds.
    computed = [process.log.count("train features view 3/3") for process in both]
    assert sorted(computed) == [0, 1]
    np.testing.assert_array_equal(_losses(tmp_path / "one"), _losses(tmp_path / "two"))
    assert list((tmp_path / "cache").glob(".*.tmp-*")) == []
