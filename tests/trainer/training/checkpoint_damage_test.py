"""Tests of checkpoints that are damaged, and of their order."""

import os

import numpy as np
import pytest

from trainer.training import checkpoints
from trainer.training.checkpoints import Checkpoint
from trainer.training.position import Position


def _save(model_dir, steps, *, keep):
    values = [np.full([3], steps, np.float32), np.array(steps, np.int64)]
    position = Position(total_steps=steps, history=({"val_loss": 0.5},))
    checkpoint = Checkpoint(
        position, variables=values, optimizer=[], best_weights=values[:1]
    )
    checkpoints.save(model_dir, checkpoint, keep=keep)


def test_the_newest_checkpoints_are_kept_and_come_back_as_they_were(tmp_path):
    for steps in range(1, 13):
        _save(tmp_path, steps, keep=3)
    names = [path.name for path in checkpoints.list_checkpoints(tmp_path)]
    assert names == [f"step-{steps:010d}.npz" for steps in (12, 11, 10)]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == sorted(names)
    loaded = checkpoints.load_newest(tmp_path)
    assert loaded.position == Position(total_steps=12, history=({"val_loss": 0.5},))
    np.testing.assert_array_equal(loaded.variables[0], np.full([3], 12, np.float32))
    assert loaded.variables[1].dtype == np.int64
    assert loaded.optimizer == []
    np.testing.assert_array_equal(loaded.best_weights[0], loaded.variables[0])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    tmp_path, damage, capsys
):
    for steps in (1, 2):
        _save(tmp_path, steps, keep=2)
    newest, before = checkpoints.list_checkpoints(tmp_path)
    content = bytearray(newest.read_bytes())
    value = content.index(np.full([3], 2, np.float32).tobytes())
    content[value] ^= 1
    newest.write_bytes({"flip": content, "cut": content[:-20], "empty": b""}[damage])
    assert checkpoints.load_newest(tmp_path).position.total_steps == 1
    assert f"WARNING: {newest.name} is damaged" in capsys.readouterr().out
    before.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="No checkpoint of the run can be read"):
        checkpoints.load_newest(tmp_path)
