"""Builds the optimizer of a regime and its learning rate schedule."""

import keras

from trainer.distribution.runtime import Runtime
from trainer.models.classifier import Classifier


def make_optimizer(
    runtime: Runtime,
    classifier: Classifier,
    *,
    learning_rate: float,
    momentum: float,
    schedule: str,
    total_steps: int,
) -> keras.optimizers.Optimizer:
    """Builds SGD with Nesterov momentum; mixed_float16 adds dynamic loss scaling.

    schedule: "inverse_time" divides the rate by 1 + 1e-6 * step, "constant" keeps it,
      "cosine" reduces it to zero over total_steps, "warmup_cosine" first increases it
      from zero in a tenth of them.
    """
    rate = _make_schedule(schedule, learning_rate, total_steps)
    with runtime.strategy.scope():
        optimizer = keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0)
        if runtime.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(classifier.model.trainable_variables)
    return optimizer


def _make_schedule(
    schedule: str, learning_rate: float, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    if schedule == "inverse_time":
        return keras.optimizers.schedules.InverseTimeDecay(
            learning_rate, decay_steps=1, decay_rate=1e-6
        )
    if schedule == "cosine":
        steps = max(1, total_steps)
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    if schedule == "warmup_cosine":
        warmup_steps = max(1, total_steps // 10)
        return keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, total_steps - warmup_steps),
            warmup_target=learning_rate,
            warmup_steps=warmup_steps,
        )
    return learning_rate


def compute_rates(schedule: str, learning_rate: float, total_steps: int) -> list[float]:
    """Returns the learning rate of each step; see make_optimizer."""
    rate = _make_schedule(schedule, learning_rate, total_steps)
    if not callable(rate):
        return [rate] * total_steps
    return [float(rate(step)) for step in range(total_steps)]
