"""Whatever interrupts a preparation, there is a finished directory or none."""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import fakes
import pytest

pytestmark = pytest.mark.slow


# The moment of the kill, and whether the directory is finished then.
_KILLS = [
    (fakes.Kill("os.mkdir", ".tmp-", after=True), False),
    (fakes.Kill("pipeline.prepare.examine", after=True), False),
    # In the shard of train (77 images) and in the one of validation; then TFDS gives
    # their directory its name.
    (fakes.Kill("pipeline.records._make_example", call=40), False),
    (fakes.Kill("pipeline.records._make_example", call=80), False),
    (fakes.Kill("os.rename", "incomplete"), False),
    (fakes.Kill("os.rename", "incomplete", after=True), False),
    (fakes.Kill("os.replace", "audit.json"), False),
    (fakes.Kill("os.replace", "audit.json", after=True), False),
    (fakes.Kill("pipeline.splits.splits_csv.write_splits"), False),
    (fakes.Kill("pipeline.splits.splits_csv.write_splits", after=True), False),
    # The directory moves within the temporary one, then to its place.
    (fakes.Kill("os.rename", "/finished", after=True), False),
    (fakes.Kill("os.rename", "/finished", call=2), False),
    (fakes.Kill("os.rename", "/finished", call=2, after=True), True),
    (fakes.Kill("shutil.rmtree", ".tmp-"), True),
]


def _read_files(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_kill_at_any_file_operation_leaves_all_or_nothing(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=33)

    def command(target: pathlib.Path) -> list[str]:
        return ["-m", "pipeline.main", f"--source={source}", f"--out={target}"]

    whole = tmp_path / "data"
    targets = [tmp_path / f"data-{number}" for number in range(len(_KILLS))]
    jobs = [(command(whole), None)]
    jobs += [
        (command(target), kill)
        for target, (kill, _) in zip(targets, _KILLS, strict=True)
    ]
    done, *killed = fakes.run_forked(jobs)
    assert done.returncode == 0, done.stderr
    expected = _read_files(whole)
    assert {"audit.json", "audit.html", "splits.csv"} < set(expected)
    unfinished = []
    for target, (kill, is_finished), result in zip(
        targets, _KILLS, killed, strict=True
    ):
        assert result.returncode == -signal.SIGKILL, (kill, result)
        assert target.exists() == is_finished, kill
        assert list(tmp_path.glob(f".{target.name}.tmp-*")), kill
        if is_finished:
            assert _read_files(target) == expected
        else:
            unfinished.append(target)
    for done in fakes.run_forked([(command(target), None) for target in unfinished]):
        assert done.returncode == 0, done.stderr
    for target in unfinished:
        assert _read_files(target) == expected
        assert not list(tmp_path.glob(f".{target.name}.tmp-*"))


# While an old directory is replaced, and whether the new one is there then.
_KILLS_WHILE_REPLACING = [
    (fakes.Kill("pipeline.system.files.publish_directory"), False),
    (fakes.Kill("pipeline.system.files.exchange"), False),
    (fakes.Kill("pipeline.system.files.exchange", after=True), True),
    (fakes.Kill("shutil.rmtree", "/finished"), True),
    (fakes.Kill("shutil.rmtree", ".tmp-"), True),
]


def test_kill_while_replacing_leaves_the_old_or_the_new_directory(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=33)

    def command(target: pathlib.Path, seed: int) -> list[str]:
        flags = (f"--source={source}", f"--out={target}", f"--seed={seed}")
        return ["-m", "pipeline.main", *flags, "--overwrite"]

    old, new = tmp_path / "old", tmp_path / "new"
    done = fakes.run_forked([(command(old, 1), None), (command(new, 2), None)])
    assert [each.returncode for each in done] == [0, 0]
    contents = {False: _read_files(old), True: _read_files(new)}
    assert contents[False] != contents[True]
    targets = [tmp_path / f"data-{number}" for number in range(5)]
    for target in targets:
        shutil.copytree(old, target)
    jobs = [
        (command(target, 2), kill)
        for target, (kill, _) in zip(targets, _KILLS_WHILE_REPLACING, strict=True)
    ]
    killed = fakes.run_forked(jobs)
    for target, (kill, is_new), result in zip(
        targets, _KILLS_WHILE_REPLACING, killed, strict=True
    ):
        assert result.returncode == -signal.SIGKILL, (kill, result)
        assert _read_files(target) == contents[is_new], kill


def test_a_directory_that_two_renames_lost_is_there_again(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=33)
    target = tmp_path / "data"
    command = ["-m", "pipeline.main", f"--source={source}", f"--out={target}"]
    assert fakes.run_fork(*command).returncode == 0
    before = _read_files(target)
    # What the first of two renames leaves, where paths cannot be exchanged.
    target.rename(tmp_path / ".data.replaced")
    done = fakes.run_fork(*command)
    assert done.returncode == 1
    assert f"restored after an interruption: {target}" in done.stdout
    assert "The output exists already" in done.stderr
    assert _read_files(target) == before
    assert sorted(os.listdir(tmp_path)) == ["data", "photos"]


def test_a_file_that_cannot_grow_is_one_line(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=150)

    def limit_file_size():
        # What a full disk does to a write, without one: the signal is an error instead.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipeline.main"),
            f"--source={folder}",
            f"--out={tmp_path / 'data'}",
        ],
        cwd=fakes.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit_file_size,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("pipeline.main: error: The shards could not be written")
    assert sorted(os.listdir(tmp_path)) == ["photos"]
