"""Trains many heads of one shape side by side, as one batched model."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipeline.loading.order import mix_seed, num_batches
from trainer.training.optimizer import compute_rates

_ROWS_PER_CALL = 4096


@dataclasses.dataclass(frozen=True)
class Head:
    """One head of the grid; the fields are the flags of the same names."""

    head_lr: float
    head_units: int
    dropout: float
    pooling: str
    cached_views: int


@dataclasses.dataclass(frozen=True)
class HeadRecipe:
    """How the heads are trained: as the head regime trains its head."""

    epochs: int
    batch_size: int
    schedule: str
    momentum: float
    seed: int


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
    recipe: HeadRecipe,
) -> np.ndarray:
    """Trains H heads of one shape side by side, on one order of the examples.

    All heads start from the same weights and see the same batches, so they differ only
    in what they are compared by.

    Args:
      views: float [N, D] each; the epochs use them in turn.
      labels: int [N].
      evaluated: float [M, D], classified after each epoch.
      weights: float32 [H, N], weight of each example for each head; 0 leaves it out.
      rates, dropouts: learning rate and dropout of each head.

    Returns:
      float32 logits [epochs, H, M, K].
    """
    count, dimensions = views[0].shape
    steps = num_batches(count, recipe.batch_size)
    factors = compute_rates(recipe.schedule, 1.0, steps * recipe.epochs)
    with tf.device("CPU:0" if not tf.config.list_logical_devices("GPU") else "GPU:0"):
        variables = _make_variables(
            dimensions, units, num_classes, num_heads=len(rates), seed=recipe.seed
        )
        train_step = _make_train_step(variables, dropouts, recipe.momentum)
        logits = []
        for epoch in range(recipe.epochs):
            seed = mix_seed(recipe.seed, epoch + 1)
            order = np.random.default_rng(seed).permutation(count)
            features = views[epoch % len(views)]
            for number in range(steps):
                start = number * recipe.batch_size
                rows = order[start : start + recipe.batch_size]
                factor = factors[epoch * steps + number]
                train_step(
                    tf.constant(features[rows].astype(np.float32)),
                    tf.constant(labels[rows]),
                    tf.constant(weights[:, rows]),
                    tf.constant([rate * factor for rate in rates], tf.float32),
                    tf.constant([seed, number]),
                )
            parts = [
                _classify(variables, evaluated[begin : begin + _ROWS_PER_CALL])
                for begin in range(0, len(evaluated), _ROWS_PER_CALL)
            ]
            logits.append(np.concatenate(parts, axis=1))
    return np.stack(logits)


def _make_variables(
    dimensions: int, units: int, num_classes: int, *, num_heads: int, seed: int
) -> list[tf.Variable]:
    """Makes kernel and bias of the hidden layer and of the logits, each [H, ...]."""
    shapes = [(dimensions, units), (1, units), (units, num_classes), (1, num_classes)]
    return [tf.Variable(_initialise(shape, num_heads, seed)) for shape in shapes]


def _initialise(shape: tuple[int, int], num_heads: int, seed: int) -> tf.Tensor:
    """Draws initial values as Keras does by default, the same for each head.

    Biases are zero; kernels are uniform in the range of Glorot and Bengio (2010).
    """
    if shape[0] == 1:
        return tf.zeros([num_heads, *shape])
    limit = (6 / sum(shape)) ** 0.5
    drawn = tf.random.stateless_uniform(shape, [seed, shape[1]], -limit, limit)
    return tf.tile(drawn[None], [num_heads, 1, 1])


def _make_train_step(
    variables: Sequence[tf.Variable], dropouts: Sequence[float], momentum: float
) -> Callable:
    """Builds a step of SGD with Nesterov momentum, as in Keras, for all heads at once.

    train_step(features [B, D], labels [B], weights [H, B], rates [H], seed int32 [2]).
    """
    velocities = [tf.Variable(tf.zeros_like(variable)) for variable in variables]
    dropout = tf.reshape(tf.constant(dropouts, tf.float32), [-1, 1, 1])

    @tf.function(reduce_retracing=True)
    def train_step(features, labels, weights, rates, seed):
        with tf.GradientTape() as tape:
            hidden = tf.nn.relu(features[None] @ variables[0] + variables[1])
            drawn = tf.random.stateless_uniform(tf.shape(hidden)[1:], seed)
            hidden *= tf.cast(drawn >= dropout, tf.float32) / (1 - dropout)
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

    return train_step


def _classify(variables: Sequence[tf.Variable], features: np.ndarray) -> np.ndarray:
    """float [B, D] -> float32 logits [H, B, K]."""
    rows = tf.constant(features.astype(np.float32))
    hidden = tf.nn.relu(rows[None] @ variables[0] + variables[1])
    return (hidden @ variables[2] + variables[3]).numpy()
