"""Checks the labels of drawn photographs, of which some are flipped, in whole runs."""

import csv
import json
import pathlib
import signal
import types

import fakes
import pytest

from pipeline import prepare
from pipeline.prepare import Rules
from trainer.config.train_config import TrainConfig
from trainer.label_check import check

# The embedded weights were trained on drawings, so they know the shapes well.
_FLAGS = ("--weights=embedded", "--precision=float32")
_FLIPPED = {
    "circle/02.jpg": "square",
    "square/11.jpg": "stripe",
    "stripe/20.jpg": "circle",
}


@pytest.fixture(scope="module")
def flipped_dir(photographs, tmp_path_factory) -> pathlib.Path:
    """Prepared data of which three labels are wrong, by corrections."""
    base = tmp_path_factory.mktemp("flipped")
    lines = [f"{name},relabel,{label}" for name, label in _FLIPPED.items()]
    path = base / "flips.csv"
    path.write_text("\n".join(["name,action,label", *lines]) + "\n")
    prepare.prepare(
        str(photographs), str(base / "data"), rules=Rules(corrections=str(path))
    )
    # The corrections must not count as decisions of a person.
    audit_path = base / "data" / "audit.json"
    audit = json.loads(audit_path.read_text())
    audit_path.write_text(json.dumps(audit | {"corrections": None}))
    return base / "data"


def _read_rows(directory):
    with open(directory / "label_issues.csv", newline="") as file:
        return list(csv.DictReader(file))


def _check_found(directory, data_dir):
    rows = _read_rows(directory)
    with open(data_dir / "splits.csv", newline="") as file:
        split_of = {row["name"]: row["split"] for row in csv.DictReader(file)}
    assert {row["name"]: row["split"] for row in rows} == split_of
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores)
    ranks = [i for i, row in enumerate(rows) if row["name"] in _FLIPPED]
    assert max(ranks) < 0.2 * len(rows), ranks
    for row in rows:
        assert row["label"] != row["suggested_label"]
        if row["name"] in _FLIPPED:
            assert row["label"] == _FLIPPED[row["name"]]
    assert (directory / "labels.html").read_text().count("<li>") > 0


@pytest.mark.slow
def test_flipped_labels_are_found_without_a_training(flipped_dir, tmp_path):
    out = tmp_path / "labels"
    command = [
        *("-m", "trainer.check_labels", *_FLAGS, f"--data_dir={flipped_dir}"),
        f"--out={out}",
    ]
    done = fakes.run(*command)
    assert done.returncode == 0, done.stderr
    assert "labels checked: 99 photographs" in done.stdout
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        *("label_issues.csv", "labels", "labels.html")
    ]
    _check_found(out, flipped_dir)


@pytest.mark.slow
def test_a_run_checks_its_labels_at_the_end_and_after_an_interruption(
    flipped_dir, tmp_path
):
    run = tmp_path / "run"
    command = [
        *(fakes.TRAIN_ONLY, *_FLAGS, f"--data_dir={flipped_dir}"),
        *(f"--model_dir={run}", "--regimes=head", "--cached_views=1"),
        *("--augment=none", "--xla=off"),
    ]
    kill = fakes.Kill("os.replace", "label_issues.csv")
    trained, killed, last = fakes.run_forked(
        [
            (command, None),
            ([*command, "--check_labels"], kill),
            ([*command, "--check_labels"], None),
        ]
    )
    assert trained.returncode == 0, trained.stderr
    assert killed.returncode == -signal.SIGKILL
    assert last.returncode == 0, last.stderr
    assert f"labels:  {run}/labels.html" in last.stdout
    _check_found(run, flipped_dir)
    assert not (run / "features").exists()
    assert not list(run.glob(".tmp-*"))


@pytest.mark.slow
def test_mistakes_are_one_line_and_nothing_is_written(flipped_dir, tmp_path):
    data = f"--data_dir={flipped_dir}"
    out = tmp_path / "labels"
    mistakes = {
        (data, "--weights=random"): "Received: --check_labels --weights=random",
        (f"--data_dir={tmp_path}",): "which holds no prepared data",
        (data, *_FLAGS[:1], "--backbone=ResNet50"): "--backbone=ResNet50",
    }
    command = ("-m", "trainer.check_labels", f"--out={out}")
    results = fakes.run_forked([((*command, *flags), None) for flags in mistakes])
    for problem, done in zip(mistakes.values(), results, strict=True):
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("trainer.check_labels: error: ")
        assert problem in line
    assert list(tmp_path.iterdir()) == []


def test_without_cleanlab_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(
        check, "importlib", types.SimpleNamespace(util=types.SimpleNamespace())
    )
    monkeypatch.setattr(
        check.importlib.util, "find_spec", lambda name: None, raising=False
    )
    config = TrainConfig(data_dir="DATA", model_dir="RUN", export_dir="EXPORT")
    check.check_requirements(config)
    config = TrainConfig(
        data_dir="DATA", model_dir="RUN", export_dir="EXPORT", check_labels=True
    )
    with pytest.raises(ValueError, match=r"pip install -e '\.\[trust\]'"):
        check.check_requirements(config)


def test_decisions_of_earlier_corrections_are_read(tmp_path):
    decision = {"name": "a/1", "action": "relabel", "source_label": "a", "label": "b"}
    (tmp_path / "audit.json").write_text(
        json.dumps({"corrections": {"decisions": [decision]}})
    )
    assert check._read_decided(str(tmp_path)) == {
        "a/1": {"action": "relabel", "label": "b"}
    }
    (tmp_path / "audit.json").write_text("{}")
    assert check._read_decided(str(tmp_path)) == {}
