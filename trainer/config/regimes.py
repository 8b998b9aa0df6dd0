"""Defines the regimes of a run: what trains, how fast and for how long."""

import dataclasses
import enum
import math
from collections.abc import Sequence

from trainer.config.regime_specs import RegimeSpec, parse_spec
from trainer.config.train_config import TrainConfig

_MOMENTUM = 0.9
# The rate of the regime `all` as a share of --finetune_lr: the first layers are general
# and change least (Howard and Ruder, 2018, "Universal Language Model Fine-tuning").
_RATE_OF_ALL = 0.1


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
    min_steps: fewest steps; see plan_steps.
    result: "best" or "average"; see --finetune_result.
    learning_rate, momentum, schedule: settings of SGD; see optimizer.make_optimizer.
    steps, epoch_steps: all steps, and those of an epoch, the last of which may have
      fewer; 0 until plan_steps().
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
    steps: int = 0
    epoch_steps: int = 0


def make_regimes(config: TrainConfig) -> list[Regime]:
    """Returns the regimes of a run in order; a new regime is a new entry here."""
    frozen: Freeze | int | str = Freeze.AUTOMATIC
    if config.freeze_until is not None:
        frozen = config.freeze_until
    elif config.freeze_layers is not None:
        frozen = config.freeze_layers
    finetune = Regime(
        name="finetune",
        frozen=frozen,
        train_batch_norm=config.finetune_batch_norm == "trained",
        epochs=config.finetune_epochs,
        learning_rate=config.finetune_lr,
        momentum=_MOMENTUM,
        schedule=config.schedule,
        min_steps=config.finetune_steps,
        result=config.finetune_result,
    )
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
        "finetune": finetune,
        "top": dataclasses.replace(finetune, name="top"),
        "all": dataclasses.replace(
            finetune,
            name="all",
            frozen=0,
            learning_rate=_RATE_OF_ALL * config.finetune_lr,
        ),
    }
    specs = [parse_spec(text) for text in config.regimes]
    return [_apply(spec, regimes.get(spec.name, finetune)) for spec in specs]


def _apply(spec: RegimeSpec, regime: Regime) -> Regime:
    """Returns the regime with the settings that --regimes gives it."""
    # Epochs or steps of the user's own are all that there are.
    min_steps = 0 if spec.epochs is not None else regime.min_steps
    return dataclasses.replace(
        regime,
        name=spec.name,
        frozen=regime.frozen if spec.freeze is None else spec.freeze,
        learning_rate=regime.learning_rate if spec.lr is None else spec.lr,
        epochs=regime.epochs if spec.epochs is None else spec.epochs,
        min_steps=min_steps if spec.steps is None else spec.steps,
    )


def plan_steps(
    regimes: Sequence[Regime], pass_steps: int, *, epoch_steps: int
) -> list[Regime]:
    """Returns the regimes with their steps, and with as many epochs as these make.

    An epoch is one pass over the training images. Where the fewest steps need more
    passes than the regime has epochs, an epoch is several passes: each validation and
    each checkpoint takes as long as many small steps.

    Args:
      pass_steps: number of steps of one pass.
      epoch_steps: fewest steps of an epoch of several passes.
    """
    planned = []
    for regime in regimes:
        passes = max(regime.epochs, math.ceil(regime.min_steps / pass_steps))
        per_epoch = 1
        if passes > regime.epochs:
            # The regime keeps at least its number of epochs.
            most = max(1, passes // max(1, regime.epochs))
            per_epoch = min(max(1, math.ceil(epoch_steps / pass_steps)), most)
        planned.append(
            dataclasses.replace(
                regime,
                epochs=math.ceil(passes / per_epoch),
                steps=passes * pass_steps,
                epoch_steps=per_epoch * pass_steps,
            )
        )
    return planned


def limit_steps(regime: Regime, steps: int) -> Regime:
    """Returns the regime with at most this many steps; its last epoch may be shorter.

    regime: from plan_steps().
    """
    steps = min(steps, regime.steps)
    epochs = math.ceil(steps / regime.epoch_steps)
    return dataclasses.replace(regime, steps=steps, epochs=epochs)
