"""Whatever ends a run, the same command continues it, to the same bit."""

import json
import pathlib
import random
import re
import signal
import time

import fakes
import numpy as np
import pytest

from pipeline import prepare
from pipeline.splits.assign import SplitPlan
from trainer.training import checkpoints, run_dir

FLAGS = (*fakes.SHALLOW_MODEL_FLAGS, "--dropout=0.3", "--deterministic")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> pathlib.Path:
    base = tmp_path_factory.mktemp("resume")
    source = fakes.write_folder(base / "photos", per_class=33)
    prepare.prepare(str(source), str(base / "data"))
    return base / "data"


def _wait_for(text: str, process: fakes.Forked) -> None:
    while process.poll() is None and text not in process.log:
        time.sleep(0.02)


def _lines(model_dir: pathlib.Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    text = (model_dir / "metrics.jsonl").read_text()
    timed = {"seconds", "val_seconds", "images_per_second", "input_wait"}
    return [
        {key: value for key, value in json.loads(line).items() if key not in timed}
        for line in text.splitlines()
    ]


def _assert_same_run(left: pathlib.Path, right: pathlib.Path) -> None:
    assert _lines(left) == _lines(right)
    ends = [checkpoints.load_newest(model_dir) for model_dir in (left, right)]
    assert ends[0].position.total_steps == ends[1].position.total_steps
    for part in ("variables", "optimizer", "best_weights"):
        for ours, theirs in zip(
            getattr(ends[0], part), getattr(ends[1], part), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    summaries = [json.loads((d / "summary.json").read_text()) for d in (left, right)]
    assert summaries[0]["test"] == summaries[1]["test"]


def _kills_of_one_run() -> list[fakes.Kill]:
    """The moments of the kills, in the order in which one run reaches them.

    An epoch has ten steps. Each start continues the run that the one before left.
    """
    moments = random.Random(5)
    end_of_epoch = "trainer.training.checkpoints.save"
    return [
        # In the pass that computes the features: one file of several has its name.
        fakes.Kill("os.replace", ".features", after=True),
        # Before a checkpoint of the head gets its name.
        fakes.Kill("os.replace", "step-0000000020"),
        # In the first batch of the validation of the third epoch.
        fakes.Kill("trainer.evaluation.evaluate.map_examples", call=2, after=True),
        # Between the regimes.
        fakes.Kill("os.replace", "head.best.weights.h5"),
        fakes.Kill("os.replace", "head.best.weights.h5", after=True),
        # In the second regime, at random moments after its first epochs; an epoch takes
        # about 0.1 seconds.
        fakes.Kill(
            end_of_epoch,
            seconds=moments.uniform(0.1, 0.7),
            signal_number=signal.SIGTERM,
        ),
        fakes.Kill(end_of_epoch, seconds=moments.uniform(0.1, 0.7)),
        # After the evaluation, before its summary gets its name.
        fakes.Kill("os.replace", "summary.json"),
    ]


@pytest.mark.slow
def test_kills_at_chosen_moments_change_no_bit(data_dir, tmp_path):
    arguments = (
        *FLAGS,
        f"--data_dir={data_dir}",
        "--head_epochs=5",
        "--finetune_epochs=40",
        "--schedule=cosine",
    )
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    command = (fakes.TRAIN_ONLY, *arguments, f"--model_dir={pieces}")
    kills = _kills_of_one_run()
    done, *killed, last = fakes.run_forked(
        [
            ((fakes.TRAIN_ONLY, *arguments, f"--model_dir={whole}"), None),
            *((command, kill) for kill in kills),
            (command, None),
        ]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reached = []
    for done, kill in zip(killed, kills, strict=True):
        if kill.signal_number == signal.SIGTERM:
            assert done.returncode == 128 + signal.SIGTERM, (kill, done)
            assert "stopped by SIGTERM" in done.stderr
        else:
            assert done.returncode == -kill.signal_number, (kill, done)
        continued = re.search(r"continuing after step (\d+)", done.stdout)
        reached.append(int(continued[1]) if continued else 0)
    assert reached[:6] == [0, 0, 10, 20, 50, 50]
    assert reached == sorted(reached)
    assert 50 < reached[7] < 450, "no random kill came after a checkpoint"
    assert last.returncode == 0, last.stderr[-3000:]
    _assert_same_run(whole, pieces)


def _start_workers(count: int, *arguments: str):
    return fakes.start_workers(*[(fakes.TRAIN_ONLY, *arguments)] * count)


def _finish(workers) -> None:
    for process in workers:
        assert process.wait(timeout=240) == 0, process.log[-3000:]


@pytest.mark.slow
def test_three_workers_give_the_losses_of_one(data_dir, tmp_path):
    """The shards of training and of test images differ by one: 77 and 10 images."""
    arguments = (
        *fakes.SHALLOW_MODEL_FLAGS,
        f"--data_dir={data_dir}",
        "--batch_size=12",
        "--augment=none",
        "--head_epochs=2",
        "--finetune_epochs=2",
    )
    alone, together = tmp_path / "1", tmp_path / "3"
    done = fakes.run_fork(fakes.TRAIN_ONLY, *arguments, f"--model_dir={alone}")
    assert done.returncode == 0, done.stderr[-3000:]
    with _start_workers(3, *arguments, f"--model_dir={together}") as workers:
        _finish(workers)
    for ours, theirs in zip(_lines(together), _lines(alone), strict=True):
        for key in ("train_loss", "val_loss"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4)
    # Only the chief writes.
    assert len(list((together / "tensorboard" / "head").glob("events*"))) == 1
    summary = json.loads((together / "summary.json").read_text())
    expected = json.loads((alone / "summary.json").read_text())
    assert summary["test"]["count"] == expected["test"]["count"]


@pytest.mark.slow
def test_a_lost_worker_ends_the_other_and_both_can_continue(data_dir, tmp_path):
    arguments = (
        *FLAGS,
        f"--data_dir={data_dir}",
        "--head_epochs=14",
        "--finetune_epochs=2",
    )
    whole = tmp_path / "whole"
    with _start_workers(2, *arguments, f"--model_dir={whole}") as workers:
        _finish(workers)
    pieces = tmp_path / "pieces"
    arguments = (*arguments, f"--model_dir={pieces}")
    with _start_workers(2, *arguments) as workers:
        chief, other = workers
        _wait_for("head 4/14", chief)
        other.kill()
        assert chief.wait(timeout=90) == 1
        last = chief.log.strip().splitlines()[-1]
        assert last.startswith("trainer.main: error: Another worker is gone")
        assert "step-" in last
    with _start_workers(2, *arguments) as workers:
        chief, other = workers
        _wait_for("continuing after step", chief)
        _wait_for("head 9/14", chief)
        # A preempted machine: one worker is asked to stop, and both save and end.
        other.send_signal(signal.SIGTERM)
        assert [process.wait(timeout=30) for process in workers] == [143, 143]
        assert "stopped by SIGTERM" in chief.log
    with _start_workers(2, *arguments) as workers:
        _finish(workers)
    _assert_same_run(whole, pieces)


@pytest.mark.slow
def test_weights_that_the_disk_has_no_room_for_are_not_begun(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr(run_dir.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=f"--model_dir={tmp_path}; make room"):
        run_dir.save_best_weights(fakes.make_classifier(), tmp_path, "head")
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoints"]


@pytest.mark.slow
def test_a_run_continues_only_with_its_own_flags(data_dir, tmp_path):
    arguments = (
        fakes.TRAIN_ONLY,
        *FLAGS,
        f"--data_dir={data_dir}",
        f"--model_dir={tmp_path / 'run'}",
        "--regimes=head",
        "--head_epochs=2",
        "--profile_steps=12,15",
    )
    prepare.prepare(
        str(data_dir.parent / "photos"), str(tmp_path / "2"), plan=SplitPlan(seed=2)
    )
    done, again, other, on_other_data, moved = fakes.run_forked(
        [
            ((*arguments, *more), None)
            for more in (
                (),
                (),
                ("--head_lr=0.5",),
                (f"--data_dir={tmp_path / '2'}",),
                # Where it runs, and what is kept of it, may change.
                ("--keep_checkpoints=5", "--virtual_devices=2"),
            )
        ]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (profile,) = (tmp_path / "run").glob("tensorboard/plugins/profile/*/*.xplane.pb")
    assert profile.stat().st_size > 1000
    assert again.returncode == 0
    assert "is finished" in again.stdout
    assert other.returncode == 1
    last = other.stderr.strip().splitlines()[-1]
    assert "--head_lr=0.01" in last
    assert "Received: --head_lr=0.5" in last
    assert on_other_data.returncode == 1
    last = on_other_data.stderr.strip().splitlines()[-1]
    assert "was started on other data" in last
    assert moved.returncode == 0, moved.stderr[-3000:]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_with_step_and_checkpoint(
    data_dir, tmp_path
):
    arguments = (
        fakes.TRAIN_ONLY,
        *FLAGS,
        f"--data_dir={data_dir}",
        f"--model_dir={tmp_path / 'run'}",
        "--head_epochs=1",
        "--finetune_epochs=1",
        "--finetune_lr=1e38",
    )
    done = fakes.run_fork(*arguments)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(r"The loss became (nan|inf) in step 1\d of the run", last), last
    assert "the last good checkpoint is" in last
    assert "step-0000000010.npz" in last
    assert "smaller --finetune_lr. Received: a rate of 1e+38" in last
