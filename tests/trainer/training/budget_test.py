"""Tests that --minutes decides the steps of a regime once, and that they are kept."""

import json
import signal

import fakes
import pytest


def _command(data_dir, run_dir, minutes):
    return (
        *(fakes.TRAIN_ONLY, *fakes.SHALLOW_MODEL_FLAGS, f"--data_dir={data_dir}"),
        *(f"--model_dir={run_dir}", f"--minutes={minutes}"),
        *("--regimes=head,finetune", "--head_epochs=1", "--finetune_epochs=2"),
    )


@pytest.mark.slow
def test_the_steps_are_decided_once(data_dir, tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    kill = fakes.Kill("os.replace", "config.json", call=2, after=True)
    done, killed, too_short = fakes.run_forked(
        [
            (_command(data_dir, whole, 1000), None),
            (_command(data_dir, pieces, 1000), kill),
            (_command(data_dir, tmp_path / "none", 0.01), None),
        ]
    )
    # Enough time is no change.
    assert done.returncode == 0, done.stderr[-3000:]
    config = json.loads((whole / "config.json").read_text())
    assert config["steps"] == {"head": 10, "finetune": 20}
    assert "20 of 20 steps fit into --minutes" in done.stdout
    # Too little is one line, and leaves nothing.
    assert too_short.returncode == 1
    last = too_short.stderr.strip().splitlines()[-1]
    assert "There is no time for a step of head" in last
    assert "Received: --minutes=0.01" in last
    assert not (tmp_path / "none").exists()
    # A run that continues takes the number that is stored, and ends with it.
    assert killed.returncode == -signal.SIGKILL
    path = pieces / "config.json"
    config = json.loads(path.read_text())
    assert config["steps"] == {"head": 10}
    path.write_text(json.dumps(config | {"steps": {"head": 4, "finetune": 13}}))
    (continued,) = fakes.run_forked([(_command(data_dir, pieces, 1000), None)])
    assert continued.returncode == 0, continued.stderr[-3000:]
    assert "steps fit into --minutes" not in continued.stdout
    text = (pieces / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [4, 14, 17]


@pytest.mark.slow
def test_a_solved_head_is_the_result_if_there_is_no_time_to_finetune(
    data_dir, tmp_path
):
    (done,) = fakes.run_forked(
        [
            (
                (
                    *(fakes.TRAIN_ONLY, *fakes.TINY_MODEL_FLAGS, "--recipe=best"),
                    *(f"--data_dir={data_dir}", f"--model_dir={tmp_path / 'run'}"),
                    *("--head_units=0", "--minutes=0.01"),
                ),
                None,
            )
        ]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "no time for a step of finetune" in done.stdout
    assert "Received: --minutes=0.01. The weights from before it are" in done.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["steps"] == {"finetune": 0}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["best_regime"], list(summary["regimes"])) == ("head", ["head"])
