"""Tests of the lock of a run directory."""

import pytest

from trainer.training import run_dir


def test_a_directory_belongs_to_one_process_at_a_time(tmp_path):
    (tmp_path / "run").mkdir()
    with (
        run_dir.lock_run_dir(tmp_path / "run"),
        pytest.raises(ValueError, match="Another process trains"),
        run_dir.lock_run_dir(tmp_path / "run"),
    ):
        pass
    with run_dir.lock_run_dir(tmp_path / "run"):
        pass
