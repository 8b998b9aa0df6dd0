"""The distributed train step, and the loop over it."""

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
    """SGD with Nesterov momentum; float16 adds dynamic loss scaling.

    schedule: "notebook" divides the rate by 1 + 1e-6 a step, "constant" keeps it and
    "cosine" takes it to zero over total_steps.
    """
    rate = _make_schedule(schedule, learning_rate, total_steps)
    with runtime.strategy.scope():
        optimizer = keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0)
        if runtime.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(classifier.model.trainable_variables)
    return optimizer


def _make_schedule(name: str, learning_rate: float, total_steps: int):
    return {
        "notebook": keras.optimizers.schedules.InverseTimeDecay(
            learning_rate, decay_steps=1, decay_rate=1e-6
        ),
        "constant": learning_rate,
        "cosine": keras.optimizers.schedules.CosineDecay(learning_rate, total_steps),
    }[name]


def make_rates(schedule: str, learning_rate: float, total_steps: int) -> list[float]:
    """The learning rate of each step; see make_optimizer."""
    made = _make_schedule(schedule, learning_rate, total_steps)
    if not callable(made):
        return [made] * total_steps
    return [float(made(step)) for step in range(total_steps)]
