"""Defines one line of metrics.jsonl: the figures of one epoch."""

from typing import TypedDict


class EpochMetrics(TypedDict):
    """The figures of one complete epoch.

    regime: name of the regime.
    epoch: number of the epoch within its regime, from 1; 0 for a head that was solved
      by logistic regression before.
    step: training steps of the whole run up to the end of the epoch.
    train_loss, train_accuracy: means over the training examples, measured while the
      weights change; the loss in nats.
    val_loss, val_accuracy, val_balanced_accuracy, val_macro_f1: on the validation split
      after the epoch; see metrics.Figures.
    learning_rate: the rate after the last step of the epoch.
    images_per_second: training images per second.
    input_wait: fraction of the training time that was spent waiting for input; None
      with --deterministic, where TensorFlow allows no clock.
    seconds, val_seconds: time of the training steps and of the validation.
    best: True if these weights are the best so far.
    """

    regime: str
    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_macro_f1: float
    learning_rate: float
    images_per_second: float
    input_wait: float | None
    seconds: float
    val_seconds: float
    best: bool
