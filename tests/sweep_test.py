import csv
import dataclasses
import json

import fakes
import keras
import numpy as np
import pytest
from absl import flags

from pipeline import prepare, splits
from pipeline.loading.order import mix_seed
from pipeline.sources.images import SPLITS
from trainer.config.flags import define_flags, from_flags
from trainer.head_search.search import _best_epoch
from trainer.head_search.stacked_heads import _initialise, train_heads

COUNT, DIMENSIONS, CLASSES = 22, 7, 3


def _settings(**changes):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer"])
    small = {"head_epochs": 3, "batch_size": 8, "schedule": "constant", "seed": 4}
    return dataclasses.replace(from_flags(values), **small | changes)


def _examples(seed, count=COUNT):
    """Clouds around one point a class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    points = np.random.default_rng(0).normal(size=(CLASSES, DIMENSIONS))
    rows = points[labels] + 0.4 * rng.normal(size=(count, DIMENSIONS))
    return rows.astype(np.float32), labels


def _train_heads(views, labels, evaluated, settings, *, weights=None, **options):
    given = {"rates": [0.1], "dropouts": [0.0], "units": 5, "num_classes": CLASSES}
    heads = len((given | options)["rates"])
    if weights is None:
        weights = np.ones((heads, len(labels)), np.float32)
    return train_heads(
        views, labels, evaluated, weights=weights, settings=settings, **given | options
    )


def _train_keras(views, labels, evaluated, settings, *, rate):
    """One head by Keras's own layers and optimizer, on the same batches."""
    head = keras.Sequential(
        [keras.layers.Dense(5, activation="relu"), keras.layers.Dense(CLASSES)]
    )
    head.build((None, DIMENSIONS))
    for layer in head.layers:
        kernel = _initialise(layer.kernel.shape, 1, settings.seed)
        layer.kernel.assign(kernel[0])
    head.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    found = []
    for epoch in range(settings.head_epochs):
        seed = mix_seed(settings.seed, epoch + 1)
        order = np.random.default_rng(seed).permutation(len(labels))
        for start in range(0, len(labels), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            head.train_on_batch(views[epoch % len(views)][rows], labels[rows])
        found.append(np.asarray(head(evaluated)))
    return np.stack(found)


def test_heads_side_by_side_are_what_keras_trains_one_by_one():
    settings = _settings()
    views = [_examples(seed)[0] for seed in (1, 2)]
    _, labels = _examples(1)
    evaluated, _ = _examples(3, count=10)
    rates = [0.02, 0.1]
    both = _train_heads(
        views, labels, evaluated, settings, rates=rates, dropouts=[0.0, 0.0]
    )
    assert both.shape == (3, 2, 10, CLASSES)
    for index, rate in enumerate(rates):
        wanted = _train_keras(views, labels, evaluated, settings, rate=rate)
        np.testing.assert_allclose(both[:, index], wanted, atol=2e-5)


def test_the_schedule_is_the_regimes():
    rows, labels = _examples(1)
    options = (_examples(3, count=10)[0],)
    constant = _train_heads([rows], labels, *options, _settings(head_epochs=1))
    cosine = _train_heads(
        [rows], labels, *options, _settings(head_epochs=1, schedule="cosine")
    )
    notebook = _train_heads(
        [rows], labels, *options, _settings(head_epochs=1, schedule="notebook")
    )
    np.testing.assert_allclose(notebook, constant, atol=1e-4)
    assert np.abs(cosine - constant).max() > 1e-2


def test_a_weight_of_zero_leaves_an_example_out():
    settings = _settings(batch_size=64)
    rows, labels = _examples(1)
    evaluated, _ = _examples(3, count=10)
    weights = np.ones((1, COUNT), np.float32)
    weights[0, 5:] = 0
    masked = _train_heads([rows], labels, evaluated, settings, weights=weights)
    alone = _train_heads([rows[:5]], labels[:5], evaluated, settings)
    np.testing.assert_allclose(masked, alone, atol=1e-5)


def test_dropout_acts_in_training_alone():
    settings = _settings(head_epochs=1)
    rows, labels = _examples(1)
    evaluated, _ = _examples(3, count=10)
    options = {"rates": [0.1, 0.1, 1e-12], "dropouts": [0.0, 0.5, 0.5]}
    found = _train_heads([rows], labels, evaluated, settings, **options)[0]
    assert np.abs(found[0] - found[1]).max() > 1e-2
    again = _train_heads([rows], labels, evaluated, settings, **options)[0]
    np.testing.assert_array_equal(found, again)
    # A rate of next to nothing leaves the first weights, and those drop no unit.
    still = _train_heads([rows], labels, evaluated, settings, rates=[1e-12])[0]
    np.testing.assert_allclose(found[2], still[0], atol=1e-6)


def test_a_rate_that_diverges_ranks_last():
    logits = np.full((2, 4, CLASSES), np.nan, np.float32)
    figures = _best_epoch(logits, np.array([0, 1, 2, 0]))
    assert figures == {"epoch": 1, "val_accuracy": 0.0, "val_loss": float("inf")}


def test_groups_are_spread_evenly_over_folds_whatever_their_split():
    keys = [str(number) for number in range(4000)]
    options = {"num_folds": 4, "seed": 1}
    folds = {key: splits.fold_of(key, **options) for key in keys}
    fractions = (0.8, 0.1, 0.1)
    for split in SPLITS:
        inside = [
            folds[key]
            for key in keys
            if splits.split_of(key, fractions=fractions, seed=1) == split
        ]
        share = np.bincount(inside, minlength=4) / len(inside)
        np.testing.assert_allclose(share, 0.25, atol=0.08)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        (["--folds=1"], "--folds=1"),
        (["--folds=-2"], "--folds=-2"),
        (["--sweep=head", "--regimes=finetune"], "--sweep=head"),
    ],
)
def test_settings_that_cannot_be_used_are_quoted(options, received):
    values = flags.FlagValues()
    define_flags(values)
    values(["trainer", *options])
    with pytest.raises(ValueError, match=received):
        from_flags(values)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    base = tmp_path_factory.mktemp("sweep")
    source = fakes.write_folder(base / "photos", per_class=33)
    prepare.prepare(str(source), str(base / "data"))
    return str(base / "data")


@pytest.mark.slow
def test_a_run_sweeps_keeps_the_best_and_continues_with_it(data_dir, tmp_path):
    run_dir = tmp_path / "run"
    command = (
        *("-m", "trainer.main", *fakes.TINY_MODEL_FLAGS, f"--data_dir={data_dir}"),
        *(f"--model_dir={run_dir}", "--sweep=head", "--folds=3", "--cached_views=2"),
        *("--head_epochs=2", "--finetune_epochs=1", "--freeze_layers=60"),
        "--augment=light",
    )
    done = fakes.run(*command)
    assert done.returncode == 0, done.stderr
    summary = json.loads((run_dir / "summary.json").read_text())
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
    again = fakes.run(*command)
    assert again.returncode == 0, again.stderr
    assert "sweep:" not in again.stdout
    repeated = json.loads((run_dir / "summary.json").read_text())
    assert repeated["search"] == search
    assert repeated["test"] == summary["test"]


@pytest.mark.slow
def test_two_workers_find_the_head_that_one_finds(data_dir, tmp_path):
    """Each has the features of its share alone; the chief trains the heads on all."""
    found = {}
    for workers in (1, 2):
        run_dir = tmp_path / str(workers)
        command = (
            *("-m", "trainer.main", *fakes.TINY_MODEL_FLAGS, f"--data_dir={data_dir}"),
            *(f"--model_dir={run_dir}", "--sweep=head", "--folds=3"),
            *("--cached_views=2", "--regimes=head", "--head_epochs=2"),
        )
        codes, outputs = fakes.run_workers(*[command] * workers)
        assert codes == [0] * workers, outputs
        summary = json.loads((run_dir / "summary.json").read_text())
        found[workers] = summary["search"]
    alone, together = found[1], found[2]
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
