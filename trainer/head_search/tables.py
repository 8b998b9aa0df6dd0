"""search_head(): heads compared on cached features, where each takes but a moment."""

import dataclasses
from collections.abc import Sequence

from trainer.config.train_config import TrainConfig
from trainer.evaluation import metrics
from trainer.head_search.stacked_heads import Head

_SHOWN = 10


def print_sweep(
    config: TrainConfig, given: Head, ranked: Sequence[dict], count: int
) -> None:
    print(
        f"\nsweep: {len(ranked)} heads, {config.head_epochs} epochs each, on features"
        f" of {config.backbone}; validation has {count} photographs\n"
        "    rate  units  dropout  pooling  views  epoch  validation accuracy"
        "       loss"
    )
    wanted = dataclasses.asdict(given)
    place = next(
        i for i, row in enumerate(ranked) if all(row[k] == wanted[k] for k in wanted)
    )
    for index in sorted({*range(min(_SHOWN, len(ranked))), place}):
        row = ranked[index]
        correct = round(row["val_accuracy"] * count)
        low, high = metrics.confidence_interval(correct, count)
        print(
            f"{row['head_lr']:>8g}  {row['head_units']:>5}  {row['dropout']:>7g}  "
            f"{row['pooling']:>7}  {row['cached_views']:>5}  {row['epoch']:>5}  "
            f"{row['val_accuracy']:.4f} [{low:.4f}, {high:.4f}]  {row['val_loss']:.4f}"
            + (f"  (place {index + 1}: the flags)" if index == place else "")
        )
    print(
        f"kept the first; of {len(ranked)} on {count} the best is flattered: the test "
        "split says what it is worth, and --folds nearly so",
        flush=True,
    )


def print_folds(found: dict) -> None:
    low, high = found["ci95"]
    parts = ", ".join(
        "none" if each is None else f"{each:.4f}" for each in found["accuracy_per_fold"]
    )
    print(
        f"{found['folds']}-fold accuracy of the head: {found['accuracy']:.4f} "
        f"[{low:.4f}, {high:.4f}] on {found['count']} photographs of train and "
        f"validation; by fold {parts}\n",
        flush=True,
    )
