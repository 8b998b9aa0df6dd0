"""Mixes each example of a batch with another one: mixup and cutmix."""

from collections.abc import Callable

import tensorflow as tf

from pipeline.augmentation.counter_rng import row_seeds, uniforms

# (values, seed, weights) -> (mixed, partner, own_fraction); see build_mixer.
Mixer = Callable[
    [tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]
]


def build_mixer(name: str) -> Mixer:
    """Builds mix(values, seed, weights) -> (mixed, partner, own_fraction).

    values: float [B, H, W, C], images or feature maps; for mixup also [B, C]. mixed has
    the same shape and dtype. seed: int32 [2]. weights: float32 [B]; rows of weight 0
    (padding) stay as they are and are mixed into no other row.
    partner: int32 [B], the row that is mixed in. Among the rows that count, each is the
    partner of exactly one other. own_fraction: float32 [B], the fraction that is left
    of the row itself, so that the loss is own_fraction * loss(own label)
    + (1 - own_fraction) * loss(label of the partner).

    Args:
      name: "mixup" (Zhang et al., 2018): the weighted sum of both rows, with a fraction
        from Beta(0.2, 0.2); "cutmix" (Yun et al., 2019): a box of the partner replaces
        that of the row. The area of the box is from Beta(1, 1) before the borders cut
        it, and the fraction is the area that is kept.

    Raises:
      ValueError: unknown name.
    """
    if name == "mixup":
        return _mixup
    if name == "cutmix":
        return _cutmix
    raise ValueError(f"Examples are mixed by mixup or cutmix. Received: --mix={name}")


def _mixup(
    values: tf.Tensor, seed: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    order, *_ = _draw_uniforms(seed, weights)
    partner = choose_partners(order, weights)
    gammas = tf.random.stateless_gamma([tf.shape(weights)[0], 2], seed, alpha=0.2)
    # Both gammas can be too small for a float.
    fraction = tf.math.divide_no_nan(gammas[:, 0], tf.reduce_sum(gammas, axis=1))
    fraction = tf.where(weights > 0, fraction, 1.0)
    broadcast_shape = tf.concat([[-1], tf.ones_like(tf.shape(values)[1:])], 0)
    factor = tf.cast(tf.reshape(fraction, broadcast_shape), values.dtype)
    mixed = factor * values + (1 - factor) * tf.gather(values, partner)
    return mixed, partner, fraction


def _cutmix(
    values: tf.Tensor, seed: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    order, area, *centre = _draw_uniforms(seed, weights)
    partner = choose_partners(order, weights)
    area = tf.where(weights > 0, area, 0.0)
    inside_y, inside_x = (
        _find_inside(tf.shape(values)[axis], tf.sqrt(area), centre[axis - 1])
        for axis in (1, 2)
    )
    inside = inside_y[:, :, tf.newaxis] & inside_x[:, tf.newaxis, :]
    num_kept = tf.math.count_nonzero(~inside, axis=[1, 2], dtype=tf.int32)
    fraction = tf.cast(num_kept / tf.size(inside[0]), tf.float32)
    mixed = tf.where(inside[..., tf.newaxis], tf.gather(values, partner), values)
    return mixed, partner, fraction


def _draw_uniforms(seed: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
    """Draws four float32 [B], uniform in [0, 1)."""
    seeds = row_seeds(seed, tf.range(tf.shape(weights)[0]))
    return tf.unstack(uniforms(seeds, 4, stream=2), axis=1)


def _find_inside(
    size: tf.Tensor, side_fraction: tf.Tensor, centre: tf.Tensor
) -> tf.Tensor:
    """Returns bool [B, size]: the pixels of one side of a box, cut at the borders.

    side_fraction, centre: float32 [B], as fractions of `size`.
    """
    side = tf.cast(side_fraction * tf.cast(size, tf.float32), tf.int32)[:, tf.newaxis]
    middle = tf.cast(centre * tf.cast(size, tf.float32), tf.int32)[:, tf.newaxis]
    pixels = tf.range(size)
    return (pixels >= middle - side // 2) & (pixels < middle - side // 2 + side)


def choose_partners(order: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Pairs each row that counts with the next in the order, others with themselves.

    Args:
      order: float32 [B], range [0, 1).
      weights: float32 [B]; a row counts if its weight is above 0.

    Returns:
      int32 [B]. If at least two rows count, each of them is the partner of exactly one
      other, and none is its own partner.
    """
    counts = weights > 0
    count = tf.reduce_sum(tf.cast(counts, tf.int32))
    rows = tf.range(tf.shape(weights)[0])
    ordered = tf.argsort(tf.where(counts, order, 2.0))
    following = tf.gather(ordered, tf.math.floormod(rows + 1, tf.maximum(count, 1)))
    partners = tf.where(rows < count, following, ordered)
    return tf.tensor_scatter_nd_update(rows, ordered[:, tf.newaxis], partners)
