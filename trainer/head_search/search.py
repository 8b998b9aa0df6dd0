"""Searches the best head (--sweep) and estimates its accuracy (--head_folds)."""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from trainer.config.class_balance import ClassBalance, rank
from trainer.config.regimes import make_regimes
from trainer.config.train_config import POOLINGS, TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation import metrics
from trainer.head_search import tables
from trainer.head_search.folds import assign_folds
from trainer.head_search.pooled_features import PooledSplit, extract_pooled
from trainer.head_search.stacked_heads import Head, HeadRecipe, train_heads
from trainer.models.classifier import Classifier

# The grid. The values of the flags are added to it.
_RATES = (0.003, 0.01, 0.03, 0.1)
_UNITS = (128, 512)
_DROPOUTS = (0.0, 0.3, 0.5)


class BestEpoch(TypedDict):
    """The best epoch of a head on validation."""

    epoch: int
    val_accuracy: float
    val_balanced_accuracy: float
    val_loss: float


def search_head(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    num_classes: int,
    *,
    balance: ClassBalance,
) -> dict[str, Any]:
    """Runs --sweep and --head_folds, without reading the test split.

    The sweep trains every head of the grid with the epochs, batches and schedule of the
    head regime, without --mix, and ranks the heads as the regime ranks its epochs.

    Args:
      classifier: its backbone computes the features, with the weights that it has.
      balance: weights of the classes, and the figure that chooses.

    Returns:
      "chosen": the flags of the best head; "sweep": the grid, the best first; "folds":
      the accuracy over folds. Each key exists only if its flag asks for it. A worker
      that is not the chief gets an empty dictionary.

    Raises:
      preemption.Stopped: the process was asked to stop.
    """
    start = time.monotonic()
    flags_head = Head(
        head_lr=config.head_lr,
        head_units=config.head_units,
        dropout=config.dropout,
        pooling=config.pooling,
        cached_views=config.cached_views or 1,
    )
    train, validation = extract_pooled(
        runtime,
        config,
        model_dir,
        classifier,
        num_classes=num_classes,
        poolings=POOLINGS if config.sweep == "head" else (config.pooling,),
    )
    if not runtime.is_chief:
        return {}
    recipe = _make_recipe(config)
    result: dict[str, Any] = {}
    head = flags_head
    if config.sweep == "head":
        ranked = _train_grid(
            flags_head,
            train,
            validation,
            num_classes=num_classes,
            recipe=recipe,
            balance=balance,
        )
        head = Head(**{name: ranked[0][name] for name in dataclasses.asdict(head)})
        result |= _sweep_to_json(ranked, head, config)
        tables.print_sweep(
            config, flags_head, ranked, len(validation[head.pooling].labels)
        )
        print(f"the sweep took {time.monotonic() - start:.0f} s\n", flush=True)
    if config.head_folds:
        result["folds"] = _cross_validate(
            config,
            head,
            train[head.pooling],
            validation[head.pooling],
            num_classes=num_classes,
            recipe=recipe,
            balance=balance,
        )
        tables.print_folds(result["folds"])
    return result


def _make_recipe(config: TrainConfig) -> HeadRecipe:
    (regime,) = (row for row in make_regimes(config) if row.name == "head")
    return HeadRecipe(
        epochs=regime.epochs,
        batch_size=config.batch_size,
        schedule=regime.schedule,
        momentum=regime.momentum,
        seed=config.seed,
    )


def _sweep_to_json(
    ranked: Sequence[Mapping[str, Any]], best: Head, config: TrainConfig
) -> dict[str, Any]:
    chosen = dataclasses.asdict(best)
    if not config.cached_views:
        del chosen["cached_views"]  # The run augments the images in every epoch.
    # JSON has no infinity.
    rows = [
        dict(row) if np.isfinite(row["val_loss"]) else {**row, "val_loss": None}
        for row in ranked
    ]
    return {"sweep": rows, "chosen": chosen}


def _train_grid(
    flags_head: Head,
    train: Mapping[str, PooledSplit],
    validation: Mapping[str, PooledSplit],
    *,
    num_classes: int,
    recipe: HeadRecipe,
    balance: ClassBalance,
) -> list[dict[str, Any]]:
    """Trains the grid; returns one row for each head, the best first.

    A row holds the fields of Head and of BestEpoch.
    """
    rates = sorted({*_RATES, flags_head.head_lr})
    dropouts = sorted({*_DROPOUTS, flags_head.dropout})
    max_views = flags_head.cached_views
    powers = {2**k for k in range(max_views.bit_length()) if 2**k <= max_views}
    rows: list[dict[str, Any]] = []
    for pooling, units, num_views in itertools.product(
        POOLINGS,
        sorted({*_UNITS, flags_head.head_units}),
        sorted({max_views, *powers}),
    ):
        pairs = list(itertools.product(rates, dropouts))
        labels = train[pooling].labels
        logits = train_heads(
            train[pooling].views[:num_views],
            labels,
            _require_plain(validation[pooling]),
            weights=np.tile(_weigh(labels, balance), (len(pairs), 1)),
            rates=[rate for rate, _ in pairs],
            dropouts=[dropout for _, dropout in pairs],
            units=units,
            num_classes=num_classes,
            recipe=recipe,
        )
        for index, (rate, dropout) in enumerate(pairs):
            head = Head(rate, units, dropout, pooling, num_views)
            best_epoch = _find_best_epoch(
                logits[:, index], validation[pooling].labels, balance.chosen_by
            )
            rows.append({**dataclasses.asdict(head), **best_epoch})
    return sorted(rows, key=lambda row: rank(row, balance.chosen_by), reverse=True)


def _weigh(labels: np.ndarray, balance: ClassBalance) -> np.ndarray:
    """Returns the weight of each image in the loss, float32 [N]."""
    if not balance.weights:
        return np.ones(len(labels), np.float32)
    return np.array(balance.weights, np.float32)[labels]


def _require_plain(split: PooledSplit) -> np.ndarray:
    assert split.plain is not None, "extract_pooled computes it for this use"
    return split.plain


def _find_best_epoch(
    logits: np.ndarray, labels: np.ndarray, chosen_by: str
) -> BestEpoch:
    """logits [epochs, N, K] -> the best epoch; the first of equal ones."""
    epochs: list[BestEpoch] = []
    for epoch, epoch_logits in enumerate(logits, start=1):
        figures = metrics.compute_figures(epoch_logits, labels)
        # A rate that is too large ends in NaN, which must rank last.
        is_finite = np.isfinite(figures["loss"])
        epochs.append(
            BestEpoch(
                epoch=epoch,
                val_accuracy=figures["accuracy"] if is_finite else 0.0,
                val_balanced_accuracy=(
                    figures["balanced_accuracy"] if is_finite else 0.0
                ),
                val_loss=figures["loss"] if is_finite else float("inf"),
            )
        )
    return max(epochs, key=lambda line: rank(line, chosen_by))


def _cross_validate(
    config: TrainConfig,
    head: Head,
    train: PooledSplit,
    validation: PooledSplit,
    *,
    num_classes: int,
    recipe: HeadRecipe,
    balance: ClassBalance,
) -> dict[str, Any]:
    """Computes the accuracy where each photograph of both splits is held out once."""
    folds = assign_folds(config, ("train", "validation"), num_folds=config.head_folds)
    held_out = np.arange(config.head_folds)[:, None] == folds
    labels = np.concatenate([train.labels, validation.labels])
    view_pairs = zip(
        train.views[: head.cached_views],
        validation.views[: head.cached_views],
        strict=True,
    )
    logits = train_heads(
        [np.concatenate(pair) for pair in view_pairs],
        labels,
        np.concatenate([_require_plain(train), _require_plain(validation)]),
        weights=~held_out * _weigh(labels, balance),
        rates=[head.head_lr] * config.head_folds,
        dropouts=[head.dropout] * config.head_folds,
        units=head.head_units,
        num_classes=num_classes,
        recipe=recipe,
    )
    # From the last epoch: to choose an epoch by the held-out photographs would make the
    # accuracy too high.
    correct = logits[-1, folds, np.arange(len(labels))].argmax(axis=1) == labels
    return {
        "folds": config.head_folds,
        "count": len(labels),
        "accuracy": float(correct.mean()),
        "ci95": list(metrics.confidence_interval(int(correct.sum()), len(labels))),
        "accuracy_per_fold": [
            float(correct[in_fold].mean()) if in_fold.any() else None
            for in_fold in held_out
        ],
        "head": dataclasses.asdict(head),
    }
