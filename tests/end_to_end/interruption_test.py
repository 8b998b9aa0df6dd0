"""Whatever interrupts a preparation, there is a finished directory or none."""

import os
import resource
import signal
import subprocess
import sys
import time

import fakes
import numpy as np
import pytest

from pipeline.loading import prepared_data

pytestmark = pytest.mark.slow


def _start(folder, out, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipeline.main",
            f"--source={folder}",
            f"--out={out}",
        ],
        cwd=fakes.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def _finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate()
    assert process.returncode == 0, output


def test_kill_at_any_moment_leaves_all_or_nothing(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=150)
    out = tmp_path / "data"
    _finish(_start(folder, out))
    expected = prepared_data.read_info(str(out))
    finished = []
    # Seconds after the first thing was written; the whole then takes about one.
    for number, moment in enumerate(np.random.default_rng(0).uniform(0, 1.2, 8)):
        target = tmp_path / f"data-{number}"
        process = _start(folder, target)
        while not list(tmp_path.glob(f".data-{number}.tmp-*")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        finished.append(target.exists())
        if target.exists():
            assert prepared_data.read_info(str(target)) == expected
    assert not all(finished), "no kill came before the end: the moments are too late"
    left_behind = [path.name for path in tmp_path.glob(".data-*.tmp-*")]
    assert left_behind
    name = left_behind[0].removeprefix(".").partition(".tmp-")[0]
    _finish(_start(folder, tmp_path / name))
    assert prepared_data.read_info(str(tmp_path / name)) == expected
    assert not list(tmp_path.glob(f".{name}.tmp-*"))


def test_a_file_that_cannot_grow_is_one_line(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=150)

    def limit_file_size():
        # What a full disk does to a write, without one: the signal is an error instead.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    process = _start(folder, tmp_path / "data", preexec_fn=limit_file_size)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert last.startswith("pipeline.main: error: The shards could not be written")
    assert sorted(os.listdir(tmp_path)) == ["photos"]
