"""A directory that is replaced is the old one or the new one, whatever happens."""

import os
import pathlib
import signal
import subprocess
import sys

import fakes
import pytest

from pipeline.system import files

# Kills itself before file operation number N; the arguments are N, "exchange" or
# "two renames", and the directory. Ends with status 0 if there is no such operation.
_REPLACE = """
import os, pathlib, signal, sys
from pipeline.system import files

number, how, base = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
if how == "two renames":
    files.exchange = lambda first, second: False
count = 0

def watch(event, arguments):
    global count
    if event in ("os.rename", "os.remove", "os.rmdir", "ctypes.dlsym"):
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
files.publish_directory(base / "finished", base / "data")
"""


def _write(directory: pathlib.Path, content: str) -> None:
    directory.mkdir(parents=True)
    for name in ("a", "b"):
        (directory / name).write_text(content)


def _read(directory: pathlib.Path) -> set[str]:
    return {(directory / name).read_text() for name in ("a", "b")}


@pytest.mark.parametrize(
    ("how", "least_operations"), [("exchange", 4), ("two renames", 5)]
)
def test_kill_before_any_operation_loses_nothing(tmp_path, how, least_operations):
    operations, seen = 0, []
    while True:
        operations += 1
        base = tmp_path / str(operations)
        _write(base / "data", "old")
        _write(base / "finished", "new")
        done = subprocess.run(
            [sys.executable, "-c", _REPLACE, str(operations), how, str(base)],
            cwd=fakes.REPOSITORY,
            check=False,
        )
        lost = not (base / "data").exists()
        assert files.restore_directory(base / "data") == lost
        assert not files.restore_directory(base / "data")
        (content,) = _read(base / "data")
        seen.append((content, lost))
        # What is not needed is gone, except for the directory of the one who called.
        assert {path.name for path in base.iterdir()} <= {"data", "finished"}
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert operations > least_operations
    assert seen[0] == ("old", False)
    assert seen[-1] == ("new", False)
    assert [content for content, _ in seen] == sorted(
        (c for c, _ in seen), reverse=True
    )
    assert any(lost for _, lost in seen) == (how == "two renames")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_link_or_a_file_is_replaced_itself(tmp_path, can_exchange, monkeypatch):
    if not can_exchange:
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    _write(tmp_path / "elsewhere", "old")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").write_text("old")
    for name in ("link", "file", "absent"):
        _write(tmp_path / "finished", "new")
        files.publish_directory(tmp_path / "finished", tmp_path / name)
        assert _read(tmp_path / name) == {"new"}
        assert not (tmp_path / name).is_symlink()
    assert _read(tmp_path / "elsewhere") == {"old"}
    assert sorted(os.listdir(tmp_path)) == ["absent", "elsewhere", "file", "link"]


def test_what_cannot_be_exchanged_stays(tmp_path):
    _write(tmp_path / "one", "old")
    assert not files.exchange(tmp_path / "one", tmp_path / "absent")
    assert _read(tmp_path / "one") == {"old"}
