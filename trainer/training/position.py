"""Defines Position, how far a run has come, and the functions that advance it."""

import dataclasses

from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.training.loop import Update


@dataclasses.dataclass(frozen=True)
class Position:
    """The progress of a run: all of its state except the variables.

    regime: index of the current regime.
    epoch: complete epochs of that regime, including their validation. An epoch is one
      pass over the training images, or several; see regimes.plan_steps.
    step: complete steps of the current epoch.
    loss_sum, correct_sum: sums over the examples of these steps.
    seconds, waited_seconds: time of these steps, and the part spent waiting for input.
    total_steps: complete steps of the whole run.
    history: the lines of metrics.jsonl.
    """

    regime: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    total_steps: int = 0
    history: tuple[EpochMetrics, ...] = ()


def advance(position: Position, update: Update) -> Position:
    """Returns the position after a call of a few steps.

    update: the result of the call.
    """
    loss_sum, correct_sum = position.loss_sum, position.correct_sum
    # One by one, so that the sum does not depend on the number of steps in a call.
    for loss, correct in zip(update.losses, update.corrects, strict=True):
        loss_sum, correct_sum = loss_sum + loss, correct_sum + correct
    return dataclasses.replace(
        position,
        step=position.step + len(update.losses),
        loss_sum=loss_sum,
        correct_sum=correct_sum,
        seconds=position.seconds + update.seconds,
        waited_seconds=position.waited_seconds + update.waited_seconds,
        total_steps=position.total_steps + len(update.losses),
    )


def complete_epoch(position: Position, line: EpochMetrics) -> Position:
    """Returns the position after an epoch and its validation."""
    return dataclasses.replace(
        position,
        epoch=position.epoch + 1,
        step=0,
        loss_sum=0.0,
        correct_sum=0.0,
        seconds=0.0,
        waited_seconds=0.0,
        history=(*position.history, line),
    )
