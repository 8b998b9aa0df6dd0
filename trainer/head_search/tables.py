"""Prints the results of the head search."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config.train_config import TrainConfig
from trainer.evaluation import metrics
from trainer.head_search.stacked_heads import Head

_PRINTED_HEADS = 10


def print_sweep(
    config: TrainConfig,
    flags_head: Head,
    ranked: Sequence[Mapping[str, Any]],
    num_images: int,
) -> None:
    """Prints the best heads and the head of the flags.

    num_images: number of validation photographs.
    """
    print(
        f"\nsweep: {len(ranked)} heads, {config.head_epochs} epochs each, on features "
        f"of {config.backbone}; validation has {num_images} photographs\n"
        "    rate  units  dropout  pooling  views  epoch  validation accuracy"
        "       loss"
    )
    fields = dataclasses.asdict(flags_head)
    flags_place = next(
        place
        for place, row in enumerate(ranked)
        if all(row[name] == value for name, value in fields.items())
    )
    for place in sorted({*range(min(_PRINTED_HEADS, len(ranked))), flags_place}):
        row = ranked[place]
        correct = round(row["val_accuracy"] * num_images)
        low, high = metrics.confidence_interval(correct, num_images)
        print(
            f"{row['head_lr']:>8g}  {row['head_units']:>5}  {row['dropout']:>7g}  "
            f"{row['pooling']:>7}  {row['cached_views']:>5}  {row['epoch']:>5}  "
            f"{row['val_accuracy']:.4f} [{low:.4f}, {high:.4f}]  {row['val_loss']:.4f}"
            + (f"  (place {place + 1}: the flags)" if place == flags_place else "")
        )
    print(
        f"the run continues with the first head. Its accuracy is too high, because it "
        f"is the best of {len(ranked)} on {num_images} photographs: the test split "
        "gives the accuracy to expect, and --head_folds nearly so",
        flush=True,
    )


def print_folds(folds: Mapping[str, Any]) -> None:
    """Prints the accuracy over the folds."""
    low, high = folds["ci95"]
    per_fold = ", ".join(
        "none" if accuracy is None else f"{accuracy:.4f}"
        for accuracy in folds["accuracy_per_fold"]
    )
    print(
        f"{folds['folds']}-fold accuracy of the head: {folds['accuracy']:.4f} "
        f"[{low:.4f}, {high:.4f}] on {folds['count']} photographs of train and "
        f"validation; by fold {per_fold}\n",
        flush=True,
    )
