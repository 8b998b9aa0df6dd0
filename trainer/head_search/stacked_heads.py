"""search_head(): heads compared on cached features, where each takes but a moment."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.loading.order import mix_seed, num_batches
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.training.optimizer import make_rates

ROWS_PER_CALL = 4096


@dataclasses.dataclass(frozen=True)
class Head:
    """One point of the grid; the fields are the flags of the same names."""

    head_lr: float
    head_units: int
    dropout: float
    pooling: str
    cached_views: int


def train_heads(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    evaluated: np.ndarray,
    *,
    weights: np.ndarray,
    rates: Sequence[float],
    dropouts: Sequence[float],
    units: int,
    num_classes: int,
    config: TrainConfig,
) -> np.ndarray:
    """Trains H heads of one shape side by side, on one order of the examples.

    All start from the same weights and see the same batches, so that they differ by
    what they are to be compared by.

    Args:
      views: float [N, D] each; the epochs take them in turn.
      labels: int [N].
      evaluated: float [M, D], classified after each epoch.
      weights: float32 [H, N] of the examples for each head; 0 leaves one out.
      rates, dropouts: H of each.
      config: epochs, batch size, schedule and seed of the head regime.

    Returns:
      float32 logits [epochs, H, M, K].
    """
    count, dimensions = views[0].shape
    (regime,) = (row for row in make_regimes(config) if row.name == "head")
    steps = num_batches(count, config.batch_size)
    factors = make_rates(regime.schedule, 1.0, steps * regime.epochs)
    with tf.device("CPU:0" if not tf.config.list_logical_devices("GPU") else "GPU:0"):
        shapes = [(dimensions, units), (1, units), (units, num_classes)]
        shapes.append((1, num_classes))
        variables = [
            tf.Variable(_initialise(shape, len(rates), config.seed)) for shape in shapes
        ]
        velocities = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
        step = _make_step(variables, velocities, dropouts, regime.momentum)
        logits = []
        for epoch in range(regime.epochs):
            seed = mix_seed(config.seed, epoch + 1)
            order = np.random.default_rng(seed).permutation(count)
            data = views[epoch % len(views)]
            for number in range(steps):
                start = number * config.batch_size
                rows = order[start : start + config.batch_size]
                factor = factors[epoch * steps + number]
                step(
                    tf.constant(data[rows].astype(np.float32)),
                    tf.constant(labels[rows]),
                    tf.constant(weights[:, rows]),
                    tf.constant([rate * factor for rate in rates], tf.float32),
                    tf.constant([seed, number]),
                )
            parts = [
                _classify(variables, evaluated[begin : begin + ROWS_PER_CALL])
                for begin in range(0, len(evaluated), ROWS_PER_CALL)
            ]
            logits.append(np.concatenate(parts, axis=1))
    return np.stack(logits)


def _initialise(shape: tuple[int, int], heads: int, seed: int) -> tf.Tensor:
    """Keras's defaults, the same for each head: biases zero, else Glorot and Bengio's
    uniform range (2010)."""
    if shape[0] == 1:
        return tf.zeros([heads, *shape])
    limit = (6 / sum(shape)) ** 0.5
    drawn = tf.random.stateless_uniform(shape, [seed, shape[1]], -limit, limit)
    return tf.tile(drawn[None], [heads, 1, 1])


def _make_step(variables, velocities, dropouts, momentum):
    """One step of SGD with Nesterov momentum, as Keras's, for all heads at once."""
    dropouts = tf.reshape(tf.constant(dropouts, tf.float32), [-1, 1, 1])

    @tf.function(reduce_retracing=True)
    def step(rows, labels, weights, rates, seed):
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(rows[None] @ variables[0] + variables[1])
            drawn = tf.random.stateless_uniform(tf.shape(hidden)[1:], seed)
            hidden *= tf.cast(drawn >= dropouts, tf.float32) / (1 - dropouts)
            logits = hidden @ variables[2] + variables[3]
            labels = tf.broadcast_to(labels, tf.shape(logits)[:2])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            counts = tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), 1.0)
            loss = tf.reduce_sum(weights * losses / counts)
        gradients = tape.gradient(loss, variables)
        rates = tf.reshape(rates, [-1, 1, 1])
        for variable, velocity, gradient in zip(
            variables, velocities, gradients, strict=True
        ):
            velocity.assign(momentum * velocity - rates * gradient)
            ahead = momentum * velocity if momentum else 0.0
            variable.assign_add(ahead - rates * gradient)

    return step


def _classify(variables, rows: np.ndarray) -> np.ndarray:
    rows = tf.constant(rows.astype(np.float32))
    hidden = tf.nn.relu(rows[None] @ variables[0] + variables[1])
    return (hidden @ variables[2] + variables[3]).numpy()
