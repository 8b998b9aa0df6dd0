"""Tests of the head search and of its folds."""

import csv
import json

import fakes
import numpy as np
import pytest

from trainer.head_search.search import _find_best_epoch


def test_a_rate_that_diverges_ranks_last():
    logits = np.full((2, 4, 3), np.nan, np.float32)
    figures = _find_best_epoch(logits, np.array([0, 1, 2, 0]), "accuracy")
    assert figures == {
        "epoch": 1,
        "val_accuracy": 0.0,
        "val_balanced_accuracy": 0.0,
        "val_loss": float("inf"),
    }


def test_the_figure_that_fits_chooses_the_epoch():
    labels = np.array([0, 0, 0, 1])
    predicted = np.array([[0, 0, 0, 0], [0, 0, 1, 1]])  # Two epochs.
    logits = np.eye(2, dtype=np.float32)[predicted]
    # Both have 3 of 4 right, and the second gets a larger loss.
    logits[1] *= 0.1
    assert _find_best_epoch(logits, labels, "accuracy")["epoch"] == 1
    assert _find_best_epoch(logits, labels, "balanced_accuracy")["epoch"] == 2


_SEARCH = ("--sweep=head", "--head_folds=3", "--cached_views=2", "--head_epochs=2")


def _flags(data_dir, run_dir):
    return (
        *(*fakes.SHALLOW_MODEL_FLAGS, f"--data_dir={data_dir}"),
        *(f"--model_dir={run_dir}", *_SEARCH, "--augment=light"),
        "--finetune_epochs=1",
    )


@pytest.fixture(scope="module")
def searched(data_dir, tmp_path_factory):
    """A run that searched a head: its directory, its output and its summary."""
    run_dir = tmp_path_factory.mktemp("searched") / "run"
    done = fakes.run_fork("-m", "trainer.main", *_flags(data_dir, run_dir))
    assert done.returncode == 0, done.stderr
    return run_dir, done, json.loads((run_dir / "summary.json").read_text())


@pytest.mark.slow
def test_a_run_sweeps_keeps_the_best_and_continues_with_it(data_dir, searched):
    run_dir, done, summary = searched
    search = summary["search"]
    # 4 rates, 3 dropouts, 2 poolings, 2 numbers of views, and 16 units beside 2 more.
    assert len(search["sweep"]) == 4 * 3 * 2 * 2 * 3
    ranks = [(row["val_accuracy"], -row["val_loss"]) for row in search["sweep"]]
    assert ranks == sorted(ranks, reverse=True)
    chosen = search["chosen"]
    assert chosen == {name: search["sweep"][0][name] for name in chosen}
    assert "sweep: 144 heads, 2 epochs each" in done.stdout
    for name, value in chosen.items():
        assert summary["config"][name] == value
    with open(f"{data_dir}/splits.csv", newline="") as file:
        used = [row["split"] in ("train", "validation") for row in csv.DictReader(file)]
    folds = search["folds"]
    assert folds["count"] == sum(used)
    assert len(folds["accuracy_per_fold"]) == 3
    assert folds["ci95"][0] < folds["accuracy"] < folds["ci95"][1]
    assert f"3-fold accuracy of the head: {folds['accuracy']:.4f}" in done.stdout
    # The regimes found what the sweep had computed.
    assert done.stderr.count("train features view 2/2") == 1
    # The export was built again from what the sweep chose; so is a run that continues.
    assert (run_dir / "export").is_dir()
    (run_dir / "summary.json").unlink()
    again = fakes.run_fork(fakes.TRAIN_ONLY, *_flags(data_dir, run_dir))
    assert again.returncode == 0, again.stderr
    assert "sweep:" not in again.stdout
    repeated = json.loads((run_dir / "summary.json").read_text())
    assert repeated["search"] == search
    assert repeated["test"] == summary["test"]


@pytest.mark.slow
def test_two_workers_find_the_head_that_one_finds(data_dir, tmp_path, searched):
    """Each has the features of its share alone; the chief trains the heads on all."""
    run_dir = tmp_path / "run"
    flags = (*_flags(data_dir, run_dir), "--regimes=head", "--epochs_only")
    command = (fakes.TRAIN_ONLY, *flags)
    codes, outputs = fakes.run_workers(command, command)
    assert codes == [0, 0], outputs
    *_, summary = searched
    alone = summary["search"]
    together = json.loads((run_dir / "config.json").read_text())["search"]
    assert len(together["sweep"]) == 144
    heads = [
        {
            tuple(row[name] for name in alone["chosen"]): row["val_loss"]
            for row in search["sweep"]
        }
        for search in (alone, together)
    ]
    assert heads[0].keys() == heads[1].keys()
    losses = [[by_head[head] for head in heads[0]] for by_head in heads]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert together["folds"]["accuracy"] == pytest.approx(
        alone["folds"]["accuracy"], abs=0.03
    )
