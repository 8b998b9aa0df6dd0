"""The flags, the frozen TrainConfig made of them, and the regimes that follow."""

import dataclasses

from trainer.config.train_config import (
    TrainConfig,
)


@dataclasses.dataclass(frozen=True)
class Regime:
    """One stage of training: what trains, how fast and for how long.

    frozen: how much of the backbone stays as it is: None for all of it, else its first
      layers, by their number or by the name of the last one.
    train_batch_norm: batch norm in the backbone's layers that train uses the statistics
      of the batch.
    learning_rate, momentum, schedule: of SGD; see loop.make_optimizer.
    """

    name: str
    frozen: int | str | None
    train_batch_norm: bool
    epochs: int
    learning_rate: float
    momentum: float
    schedule: str


def make_regimes(config: TrainConfig) -> list[Regime]:
    """The stages of a run; another stage is another row."""
    common = {"momentum": 0.9, "schedule": config.schedule}
    rows = {
        "head": Regime(
            name="head",
            frozen=None,
            train_batch_norm=False,
            epochs=config.head_epochs,
            learning_rate=config.head_lr,
            **common,
        ),
        "finetune": Regime(
            name="finetune",
            frozen=config.freeze_until or config.freeze_layers,
            train_batch_norm=config.finetune_batch_norm == "trained",
            epochs=config.finetune_epochs,
            learning_rate=config.finetune_lr,
            **common,
        ),
    }
    return [rows[name] for name in config.regimes]


def rank(line: dict) -> tuple[float, float]:
    """Orders weights by validation accuracy, equal ones by validation loss."""
    return line["val_accuracy"], -line["val_loss"]
