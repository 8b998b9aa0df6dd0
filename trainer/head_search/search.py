"""search_head(): heads compared on cached features, where each takes but a moment."""

import csv
import dataclasses
import itertools
import pathlib
import time

import numpy as np

from pipeline import splits
from pipeline.loading import prepared_data
from trainer.config.train_config import POOLINGS, TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation import metrics
from trainer.head_search.pooled_features import PooledSplit, extract_pooled
from trainer.head_search.stacked_heads import (
    Head,
    train_heads,
)
from trainer.head_search.tables import print_folds, print_sweep
from trainer.models.classifier import Classifier

# The grid; what the flags say is added to it.
_RATES = (0.003, 0.01, 0.03, 0.1)
_UNITS = (128, 512)
_DROPOUTS = (0.0, 0.3, 0.5)


def search_head(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    num_classes: int,
) -> dict:
    """Does what --sweep and --folds ask for; the test split is not looked at.

    The sweep trains every head of the grid with the head regime's epochs, batches and
    schedule, without --mix, and ranks them as the regime ranks its epochs.

    Args:
      classifier: its backbone is used as it is.

    Returns:
      "chosen": flags -> values of the best head; "sweep": the grid, best first;
      "folds": the accuracy over folds. Each only where it was asked for. Of several
      workers the chief alone gets anything.

    Raises:
      preemption.Stopped: asked to, through the runtime's stop signal.
    """
    start = time.monotonic()
    given = Head(
        config.head_lr,
        config.head_units,
        config.dropout,
        config.pooling,
        max(1, config.cached_views),
    )
    poolings = POOLINGS if config.sweep == "head" else (config.pooling,)
    train, validation = extract_pooled(
        runtime, config, model_dir, classifier, num_classes, poolings
    )
    if not runtime.is_chief:
        return {}
    found, head = {}, given
    if config.sweep == "head":
        ranked = _sweep(config, given, train, validation, num_classes)
        head = Head(**{name: ranked[0][name] for name in dataclasses.asdict(given)})
        chosen = dataclasses.asdict(head)
        if not config.cached_views:
            del chosen["cached_views"]  # the run computes every epoch's view itself
        # JSON has no infinity.
        rows = [
            row | ({} if np.isfinite(row["val_loss"]) else {"val_loss": None})
            for row in ranked
        ]
        found |= {"sweep": rows, "chosen": chosen}
        print_sweep(config, given, ranked, len(validation[head.pooling].labels))
        print(f"the sweep took {time.monotonic() - start:.0f} s\n", flush=True)
    if config.folds:
        found["folds"] = _cross_validate(
            config, head, train[head.pooling], validation[head.pooling], num_classes
        )
        print_folds(found["folds"])
    return found


def _sweep(
    config: TrainConfig,
    given: Head,
    train: dict[str, PooledSplit],
    validation: dict[str, PooledSplit],
    num_classes: int,
) -> list[dict]:
    """Trains the grid; gives a row a head, best first."""
    rates = sorted({*_RATES, given.head_lr})
    dropouts = sorted({*_DROPOUTS, given.dropout})
    most = given.cached_views
    views = sorted({most, *(2**k for k in range(most.bit_length()) if 2**k <= most)})
    rows = []
    for pooling, units, count in itertools.product(
        POOLINGS, sorted({*_UNITS, given.head_units}), views
    ):
        pairs = list(itertools.product(rates, dropouts))
        data = train[pooling]
        logits = train_heads(
            data.views[:count],
            data.labels,
            validation[pooling].plain,
            weights=np.ones((len(pairs), len(data.labels)), np.float32),
            rates=[rate for rate, _ in pairs],
            dropouts=[dropout for _, dropout in pairs],
            units=units,
            num_classes=num_classes,
            config=config,
        )
        for index, (rate, dropout) in enumerate(pairs):
            row = dataclasses.asdict(Head(rate, units, dropout, pooling, count))
            rows.append(row | _best_epoch(logits[:, index], validation[pooling].labels))
    return sorted(rows, key=_rank, reverse=True)


def _rank(row: dict) -> tuple[float, float]:
    """As the regimes rank their epochs."""
    return row["val_accuracy"], -row["val_loss"]


def _best_epoch(logits: np.ndarray, labels: np.ndarray) -> dict:
    """logits [epochs, N, K] -> the best epoch's figures; the first of equals."""
    figures = []
    for epoch, each in enumerate(logits, start=1):
        accuracy, loss = metrics.accuracy_and_loss(each, labels)
        # A rate that is too large ends in NaN, which ranks nowhere.
        loss = loss if np.isfinite(loss) else float("inf")
        accuracy = accuracy if np.isfinite(loss) else 0.0
        figures.append({"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss})
    return max(figures, key=_rank)


def _cross_validate(
    config: TrainConfig,
    head: Head,
    train: PooledSplit,
    validation: PooledSplit,
    num_classes: int,
) -> dict:
    """Accuracy where each photograph of train and validation is held out once."""
    with open(pathlib.Path(config.data_dir, "splits.csv"), newline="") as file:
        groups = {row["name"]: row["group"] for row in csv.DictReader(file)}
    names = [
        name
        for split in ("train", "validation")
        for name in prepared_data.read_names(
            prepared_data.read_records(config.data_dir, split)
        )
    ]
    folds = np.array(
        [
            splits.fold_of(groups[name], num_folds=config.folds, seed=config.seed)
            for name in names
        ]
    )
    held_out = np.arange(config.folds)[:, None] == folds
    labels = np.concatenate([train.labels, validation.labels])
    looks = zip(
        train.views[: head.cached_views],
        validation.views[: head.cached_views],
        strict=True,
    )
    logits = train_heads(
        [np.concatenate(pair) for pair in looks],
        labels,
        np.concatenate([train.plain, validation.plain]),
        weights=(~held_out).astype(np.float32),
        rates=[head.head_lr] * config.folds,
        dropouts=[head.dropout] * config.folds,
        units=head.head_units,
        num_classes=num_classes,
        config=config,
    )
    # Of the last epoch: to choose one by what is held out would flatter it.
    correct = logits[-1, folds, np.arange(len(labels))].argmax(axis=1) == labels
    return {
        "folds": config.folds,
        "count": len(labels),
        "accuracy": float(correct.mean()),
        "ci95": list(metrics.confidence_interval(int(correct.sum()), len(labels))),
        "accuracy_per_fold": [
            float(correct[own].mean()) if own.any() else None for own in held_out
        ],
        "head": dataclasses.asdict(head),
    }
