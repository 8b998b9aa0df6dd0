"""Tests of the file that a run continues from."""

import contextlib
import dataclasses
import errno
import json
import threading

import numpy as np
import pytest

from trainer.training import checkpoints
from trainer.training.checkpoints import CHECKPOINT_FORMAT, Checkpoint
from trainer.training.position import Position

LINE = {"regime": "head", "epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}
POSITION = Position(regime=1, epoch=2, step=3, total_steps=30, history=(LINE,))


def _checkpoint(position=POSITION):
    return Checkpoint(
        position,
        variables=[np.arange(3.0), np.ones((2, 2))],
        optimizer=[np.array(7)],
        best_weights=[np.array([0.25])],
    )


def _rewrite_state(path, change):
    """Saves a checkpoint again with another state."""
    with np.load(path) as stored:
        arrays = dict(stored)
    state = change(json.loads(arrays["position"].tobytes()))
    arrays["position"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    np.savez(path, **arrays)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    checkpoints.save(tmp_path, _checkpoint(), keep=1)
    (path,) = checkpoints.list_checkpoints(tmp_path)
    assert path.name == "step-0000000030.npz"
    loaded = checkpoints.load(path)
    assert loaded.position == POSITION
    for name in ("variables", "optimizer", "best_weights"):
        for left, right in zip(
            getattr(loaded, name), getattr(_checkpoint(), name), strict=True
        ):
            np.testing.assert_array_equal(left, right)


def test_only_the_newest_are_kept(tmp_path):
    for steps in (1, 2, 3):
        position = dataclasses.replace(POSITION, total_steps=steps)
        checkpoints.save(tmp_path, _checkpoint(position), keep=2)
    names = [path.name for path in checkpoints.list_checkpoints(tmp_path)]
    assert names == ["step-0000000003.npz", "step-0000000002.npz"]


def test_a_checkpoint_of_the_first_format_is_read(tmp_path):
    """It had no format number, and its position held the best figures."""
    checkpoints.save(tmp_path, _checkpoint(), keep=1)
    (path,) = checkpoints.list_checkpoints(tmp_path)

    def to_first_format(state):
        assert state.pop("format") == CHECKPOINT_FORMAT
        return state | {"best": [0.5, -1.0]}

    _rewrite_state(path, to_first_format)
    assert checkpoints.load(path).position == POSITION


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path):
    older = dataclasses.replace(POSITION, total_steps=10)
    checkpoints.save(tmp_path, _checkpoint(older), keep=2)
    checkpoints.save(tmp_path, _checkpoint(), keep=2)
    newest, _ = checkpoints.list_checkpoints(tmp_path)
    _rewrite_state(newest, lambda state: state | {"format": 99})
    # It is not damaged, so the run must not continue from the one before.
    with pytest.raises(ValueError, match=f"format 99.*up to {CHECKPOINT_FORMAT}"):
        checkpoints.load_newest(tmp_path)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_read(tmp_path, capsys):
    older = dataclasses.replace(POSITION, total_steps=10)
    checkpoints.save(tmp_path, _checkpoint(older), keep=2)
    checkpoints.save(tmp_path, _checkpoint(), keep=2)
    newest, _ = checkpoints.list_checkpoints(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-40])
    assert checkpoints.load_newest(tmp_path).position == older
    assert f"WARNING: {newest.name} is damaged" in capsys.readouterr().out


def test_the_writer_returns_before_the_file_is_there_and_ends_after(
    tmp_path, monkeypatch
):
    may_write = threading.Event()
    save = checkpoints.save

    def save_later(*arguments, **options):
        assert may_write.wait(timeout=10)
        save(*arguments, **options)

    monkeypatch.setattr(checkpoints, "save", save_later)
    checkpoint = _checkpoint()
    with contextlib.closing(checkpoints.CheckpointWriter()) as writer:
        writer.save(tmp_path, checkpoint, keep=1)
        assert not checkpoints.list_checkpoints(tmp_path)
        may_write.set()
    assert checkpoints.load_newest(tmp_path).position == checkpoint.position


@pytest.mark.parametrize("call", ["wait", "close", "save"])
def test_an_error_of_the_writer_reaches_the_training(tmp_path, monkeypatch, call):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save", fail)
    writer = checkpoints.CheckpointWriter()
    writer.save(tmp_path, _checkpoint(), keep=1)
    arguments = (tmp_path, _checkpoint()) if call == "save" else ()
    options = {"keep": 1} if call == "save" else {}
    with pytest.raises(OSError, match="No space left"):
        getattr(writer, call)(*arguments, **options)
