"""Whatever ends a run, the same command continues it, to the same bit."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import fakes
import numpy as np
import pytest

from pipeline import prepare
from trainer import checkpoints

FLAGS = (
    *fakes.TINY_MODEL_FLAGS,
    "--dropout=0.3",
    "--freeze_layers=60",
    "--deterministic",
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> pathlib.Path:
    base = tmp_path_factory.mktemp("resume")
    source = fakes.write_folder(base / "photos", per_class=33)
    prepare.prepare(str(source), str(base / "data"))
    return base / "data"


@contextlib.contextmanager
def _started(log_path: pathlib.Path, *arguments: str, **environment: str):
    """A trainer of its own process, whose output goes to a file; killed at the end."""
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer.main", *arguments],
            cwd=fakes.REPOSITORY,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(text: str, log_path: pathlib.Path, process: subprocess.Popen) -> None:
    while process.poll() is None and text not in log_path.read_text():
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
    for part in ("variables", "optimizer", "best"):
        for ours, theirs in zip(
            getattr(ends[0], part), getattr(ends[1], part), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    summaries = [json.loads((d / "summary.json").read_text()) for d in (left, right)]
    assert summaries[0]["test"] == summaries[1]["test"]


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(data_dir, tmp_path):
    arguments = (
        *FLAGS,
        f"--data_dir={data_dir}",
        "--head_epochs=40",
        "--finetune_epochs=40",
        "--schedule=cosine",
    )
    whole = tmp_path / "whole"
    done = fakes.run("-m", "trainer.main", *arguments, f"--model_dir={whole}")
    assert done.returncode == 0, done.stderr[-3000:]
    pieces, log = tmp_path / "pieces", tmp_path / "log"
    moments = random.Random(5)
    reached = []
    for number in range(20):
        with _started(log, *arguments, f"--model_dir={pieces}") as process:
            _wait_for("frozen, up to", log, process)
            time.sleep(moments.uniform(0, 2.5))
            assert process.poll() is None, log.read_text()[-3000:]
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM if number % 3 == 2 else signal.SIGKILL)
            code = process.wait(timeout=20)
        if number % 3 == 2:
            assert code == 128 + signal.SIGTERM, log.read_text()[-3000:]
            assert time.monotonic() - asked < 10
            assert "stopped by SIGTERM" in log.read_text()
        continued = re.search(r"continuing after step (\d+)", log.read_text())
        reached.append(int(continued[1]) if continued else 0)
    assert reached == sorted(reached)
    assert len(set(reached)) > 5, f"hardly a kill came after a checkpoint: {reached}"
    done = fakes.run("-m", "trainer.main", *arguments, f"--model_dir={pieces}")
    assert done.returncode == 0, done.stderr[-3000:]
    _assert_same_run(whole, pieces)
