"""Test of the demo: the whole way, as `make demo` runs it."""

import json
import re

import fakes
import pytest

from pipeline.sources import drawn_flowers


@pytest.mark.slow
def test_the_demo_learns_serves_and_classifies(tmp_path):
    run = tmp_path / "run"
    done = fakes.run("-m", "export.demo", f"--model_dir={run}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    commands = re.findall(r"^\$ python -m (\S+)", done.stdout, re.M)
    assert commands == ["trainer.main", "export.serve", "export.client"]
    summary = json.loads((run / "summary.json").read_text())
    # Measured: 0.89 to 0.95 for the head, 0.94 to 0.99 for finetune. Chance is 0.2.
    assert summary["head"]["test_accuracy"] > 0.8
    assert summary["finetune"]["val_loss"] < summary["head"]["val_loss"]
    assert summary["test"]["accuracy"] > 0.88
    assert summary["test"]["ci95"][0] > 0.8
    rows = re.findall(r"/new_pictures/(\w+)\.jpg\s+[\d.]+\s+(\w+)$", done.stdout, re.M)
    assert [name for name, _ in rows] == list(drawn_flowers.CLASSES)
    assert sum(name == label for name, label in rows) >= 4
    # The server ends without an error.
    assert "error" not in done.stderr
    assert str(run / "report.html") in done.stdout


@pytest.mark.slow
def test_a_command_that_fails_ends_the_demo_with_its_status(tmp_path):
    done = fakes.run(
        "-m", "export.demo", "--backbone=Nonsense", f"--model_dir={tmp_path / 'run'}"
    )
    assert done.returncode == 1
    assert "--backbone=Nonsense" in done.stderr
    assert "Traceback" not in done.stderr
    assert "export.serve" not in done.stdout
