"""Defines the regimes of a run: what trains, how fast and for how long."""

import dataclasses
import enum
import math
from collections.abc import Sequence

from trainer.config.train_config import TrainConfig

_MOMENTUM = 0.9


class Freeze(enum.Enum):
    """The ways to freeze a backbone that name no layer.

    ALL: all of its layers.
    AUTOMATIC: a share of its layers that follows from the backbone; see
      freezing.resolve_freeze.
    """

    ALL = "all"
    AUTOMATIC = "automatic"


@dataclasses.dataclass(frozen=True)
class Regime:
    """One regime of training.

    frozen: how much of the backbone does not train: a Freeze, the number of its first
      layers, or the name of the last of them.
    train_batch_norm: batch norm in the backbone's layers that train uses the statistics
      of each batch.
    epochs: number of epochs.
    min_steps: fewest steps; see extend_epochs.
    result: "best" or "average"; see --finetune_result.
    learning_rate, momentum, schedule: settings of SGD; see optimizer.make_optimizer.
    """

    name: str
    frozen: Freeze | int | str
    train_batch_norm: bool
    epochs: int
    learning_rate: float
    momentum: float
    schedule: str
    min_steps: int = 0
    result: str = "best"


def make_regimes(config: TrainConfig) -> list[Regime]:
    """Returns the regimes of a run in order; a new regime is a new entry here."""
    frozen: Freeze | int | str = Freeze.AUTOMATIC
    if config.freeze_until is not None:
        frozen = config.freeze_until
    elif config.freeze_layers is not None:
        frozen = config.freeze_layers
    regimes = {
        "head": Regime(
            name="head",
            frozen=Freeze.ALL,
            train_batch_norm=False,
            epochs=config.head_epochs,
            learning_rate=config.head_lr,
            momentum=_MOMENTUM,
            schedule=config.schedule,
        ),
        "finetune": Regime(
            name="finetune",
            frozen=frozen,
            train_batch_norm=config.finetune_batch_norm == "trained",
            epochs=config.finetune_epochs,
            learning_rate=config.finetune_lr,
            momentum=_MOMENTUM,
            schedule=config.schedule,
            min_steps=config.finetune_steps,
            result=config.finetune_result,
        ),
    }
    return [regimes[name] for name in config.regimes]


def extend_epochs(regimes: Sequence[Regime], epoch_steps: int) -> list[Regime]:
    """Returns the regimes with as many epochs as their fewest steps need.

    epoch_steps: number of steps of an epoch.
    """
    return [
        dataclasses.replace(
            regime,
            epochs=max(regime.epochs, math.ceil(regime.min_steps / epoch_steps)),
        )
        for regime in regimes
    ]
