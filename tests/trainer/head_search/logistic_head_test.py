"""Tests that --head_start=logistic gives the exact solution, in whole runs too."""

import contextlib
import json
import re
import signal

import fakes
import numpy as np
import pytest
from fakes import shallow_net
from scipy import special

from pipeline.system import console
from trainer.config.head_config import HeadConfig
from trainer.evaluation import metrics
from trainer.head_search.logistic_head import solve_head
from trainer.head_search.pooled_features import PooledSplit
from trainer.models import backbones
from trainer.models.classifier import build_classifier
from trainer.training import checkpoints


def _make_split(rng, *, count, num_classes, noise, dimensions=6) -> PooledSplit:
    labels = rng.integers(0, num_classes, count)
    centres = 3 * np.eye(num_classes, dimensions)
    drawn = [
        (centres[labels] + noise * rng.normal(size=(count, dimensions))).astype("f4")
        for _ in range(3)
    ]
    return PooledSplit(plain=drawn[0], views=drawn[1:], labels=labels)


def _solve(train, validation, *, num_classes):
    folds = np.arange(len(train.labels)) % 5
    return solve_head("head", train, validation, folds=folds, num_classes=num_classes)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_gradient_of_the_penalised_loss_is_zero(num_classes):
    rng = np.random.default_rng(0)
    train = _make_split(rng, count=200, num_classes=num_classes, noise=2.0)
    head = _solve(train, train, num_classes=num_classes)
    scale = np.std(train.plain.astype(np.float64))
    features = np.concatenate([train.plain, *train.views]) / scale
    labels = np.tile(train.labels, 3)
    kernel = head.kernel * scale
    errors = special.softmax(features @ kernel + head.bias, axis=1)
    errors[np.arange(len(labels)), labels] -= 1
    # Each image counts once, so each of its three views a third. With two classes
    # scikit-learn penalises the difference of the two columns, which is twice a column.
    penalty = kernel * (2 if num_classes == 2 else 1)
    gradient = head.strength / 3 * features.T @ errors + penalty
    assert np.abs(gradient).max() < 1e-3 * np.abs(penalty).max()
    assert np.abs(errors.mean(axis=0)).max() < 1e-4


def test_weights_of_classes_act_as_copies_of_their_images():
    """A class of weight 3 is as if each of its images were there three times."""
    rng = np.random.default_rng(4)
    train = _make_split(rng, count=60, num_classes=3, noise=2.0)
    folds = np.arange(60) % 5
    weighted = solve_head(
        "head", train, train, folds=folds, num_classes=3, class_weights=(1.0, 3.0, 1.0)
    )
    copies = np.where(train.labels == 1, 3, 1)
    features = np.repeat(
        np.concatenate([train.plain, *train.views]), np.tile(copies, 3), 0
    )
    labels = np.repeat(np.tile(train.labels, 3), np.tile(copies, 3))
    scale = np.std(train.plain.astype(np.float64))
    errors = special.softmax(features @ weighted.kernel + weighted.bias, axis=1)
    errors[np.arange(len(labels)), labels] -= 1
    penalty = weighted.kernel * scale
    gradient = weighted.strength / 3 * (features / scale).T @ errors + penalty
    assert np.abs(gradient).max() < 1e-3 * np.abs(penalty).max()


def test_one_image_of_each_of_two_classes_is_enough():
    """No fold can be held out; validation chooses the penalty."""
    features = 3 * np.eye(2, dtype=np.float32)
    split = PooledSplit(plain=features, views=[features], labels=np.arange(2))
    head = solve_head("head", split, split, folds=np.arange(2), num_classes=2)
    assert head.line["val_accuracy"] == 1.0
    assert (features @ head.kernel + head.bias).argmax(axis=1).tolist() == [0, 1]


def test_the_choice_of_the_penalty_and_the_solution_show_their_progress(monkeypatch):
    said: list[str] = []

    @contextlib.contextmanager
    def show_elapsed(label):
        said.append(label)
        yield said.append

    monkeypatch.setattr(console, "show_elapsed", show_elapsed)
    train = _make_split(np.random.default_rng(3), count=60, num_classes=2, noise=1.0)
    _solve(train, train, num_classes=2)
    first, *tried, last = said
    assert first == "choosing the penalty of the head"
    assert last == "solving the head with the chosen penalty"
    assert tried == [f"{number} of at most 6" for number in range(1, len(tried) + 1)]
    assert tried


def test_the_line_has_the_figures_of_the_head():
    rng = np.random.default_rng(1)
    train = _make_split(rng, count=90, num_classes=3, noise=1.0)
    validation = _make_split(rng, count=40, num_classes=3, noise=1.0)
    head = _solve(train, validation, num_classes=3)
    logits = validation.plain @ head.kernel + head.bias
    accuracy, loss = metrics.accuracy_and_loss(logits, validation.labels)
    line = head.line
    assert (line["val_accuracy"], line["val_loss"]) == (accuracy, loss)
    assert line["val_accuracy"] > 0.9
    assert (line["regime"], line["epoch"], line["best"]) == ("head", 0, True)


def test_noisier_features_get_a_stronger_penalty():
    rng = np.random.default_rng(2)
    clean, noisy = (
        _make_split(rng, count=60, num_classes=3, noise=noise, dimensions=40)
        for noise in (0.3, 6.0)
    )
    assert (
        _solve(noisy, noisy, num_classes=3).strength
        < _solve(clean, clean, num_classes=3).strength
    )


def test_a_fold_may_hold_all_images_of_a_class():
    rng = np.random.default_rng(3)
    train = _make_split(rng, count=30, num_classes=3, noise=0.5)
    train.labels[train.labels == 2] = 1
    train.labels[0] = 2
    head = _solve(train, train, num_classes=3)
    assert np.isfinite(head.kernel).all()
    assert head.line["train_accuracy"] > 0.9


def _lines(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    names = ("regime", "epoch", "train_loss", "val_loss", "val_accuracy")
    return [[line[name] for name in names] for line in map(json.loads, lines)]


def _read_weights(path):
    shallow_net.register()
    classifier = build_classifier(
        backbones.build_backbone("ShallowNet", {}, image_size=32),
        "ShallowNet",
        num_classes=len(fakes.CLASSES),
        head=HeadConfig("avg", units=0, dropout=0.0),
    )
    backbones.load_weights(classifier.model, str(path))
    return [variable.numpy() for variable in classifier.model.variables]


def _command(data_dir, run_dir):
    flags = [flag for flag in fakes.SHALLOW_MODEL_FLAGS if "head_units" not in flag]
    return [
        *(fakes.TRAIN_ONLY, *flags, f"--data_dir={data_dir}", "--recipe=best"),
        *("--finetune_epochs=1", "--finetune_steps=35"),
        "--epoch_steps=20",  # Two passes of ten steps.
        *("--cached_views=2", "--deterministic", f"--model_dir={run_dir}"),
    ]


@pytest.mark.slow
def test_a_run_starts_from_the_solved_head_and_continues_to_the_same_bits(
    data_dir, tmp_path
):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    kills = [
        fakes.Kill("os.replace", "logistic_head.npz"),
        fakes.Kill("os.replace", "logistic_head.npz", after=True),
        fakes.Kill("os.replace", "step-", after=True),
        # In the second pass of the second epoch.
        fakes.Kill(
            "trainer.training.epoch._train_pass", call=2, signal_number=signal.SIGTERM
        ),
        fakes.Kill("os.replace", "finetune.best.weights.h5"),
    ]
    done, *killed, last = fakes.run_forked(
        [
            (_command(data_dir, whole), None),
            *((_command(data_dir, pieces), kill) for kill in kills),
            (_command(data_dir, pieces), None),
        ]
    )
    assert done.returncode == 0, done.stderr
    codes = [each.returncode for each in killed]
    assert codes == [-9, -9, -9, 128 + signal.SIGTERM, -9]
    assert re.search(r"continuing after step 3\d ", killed[4].stdout)
    assert last.returncode == 0, last.stderr
    assert "head solved by logistic regression" in done.stdout
    lines = _lines(whole)
    assert [line[:2] for line in lines] == [
        ["head", 0],
        ["finetune", 1],
        ["finetune", 2],
    ]
    assert _lines(pieces) == lines
    summaries = [
        json.loads((run / "summary.json").read_text()) for run in (whole, pieces)
    ]
    for name in ("head", "finetune", "test"):
        for summary in summaries:
            summary[name].pop("seconds", None)
        assert summaries[0][name] == summaries[1][name]
    for name in ("slices", "confidence_curve", "learning_curve"):
        assert summaries[0][name] == summaries[1][name]
    assert len(summaries[0]["learning_curve"]["points"]) == 5
    assert summaries[0]["learning_curve"]["sentence"] in done.stdout
    head = summaries[0]["head"]
    assert (head["epochs"], head["best_epoch"]) == (0, 0)
    # The weights that are evaluated at the end are those that were solved.
    assert head["val_loss"] == pytest.approx(lines[0][3], rel=1e-3)
    assert summaries[0]["finetune"]["best_epoch"] == 2
    start, result = (
        _read_weights(whole / "checkpoints" / f"{name}.best.weights.h5")
        for name in ("head", "finetune")
    )
    last = checkpoints.load_newest(whole).variables
    changed = 0
    for before, after, mean in zip(start, last, result, strict=True):
        np.testing.assert_allclose(mean, (before + after) / 2, rtol=1e-5, atol=1e-7)
        changed += not np.array_equal(before, after)
    assert changed > 10


@pytest.mark.slow
def test_two_workers_start_from_the_head_of_one(data_dir, tmp_path):
    found = {}
    for workers in (1, 2):
        command = [*_command(data_dir, tmp_path / str(workers)), "--epochs_only"]
        codes, outputs = fakes.run_workers(*[command] * workers)
        assert codes == [0] * workers, outputs
        found[workers] = _lines(tmp_path / str(workers))
    for one, two in zip(found[1], found[2], strict=True):
        assert one[:2] == two[:2]
        assert one[2:4] == pytest.approx(two[2:4], rel=2e-3)
