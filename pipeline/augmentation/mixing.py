"""Random changes to training images, on the device batch: augmenters and mixers.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.

Nothing here has state: every result is a function of its inputs and its seed, so a run
that continues repeats nothing and loses nothing, and a cached view can be made again.
"""

from collections.abc import Callable

import tensorflow as tf

from pipeline.augmentation import counter_rng
from pipeline.augmentation.presets import MIXERS

Mixer = Callable[
    [tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]
]


def build_mixer(name: str) -> Mixer:
    """Builds mix(values, seed, weights) -> (mixed, partner, share).

    values: float [B, H, W, C], images or feature maps, or for mixup also [B, C]; mixed
    has the same shape and dtype. seed: int32 [2]. weights: float32 [B]; rows of weight
    0 (padding) stay as they are and are mixed into no other.
    partner: int32 [B], the row mixed in; among rows that count each is the partner of
    one other. share: float32 [B], what is left of the row itself, so that the loss is
    share * loss(its label) + (1 - share) * loss(its partner's label).

    Args:
      name: "none"; "mixup" (Zhang et al., 2018): both rows added, a share from
        Beta(0.2, 0.2); "cutmix" (Yun et al., 2019): a box of the partner replaces the
        row's own, of an area from Beta(1, 1) before the borders cut it; the share is
        the area that is kept.

    Raises:
      ValueError: unknown name.
    """
    if name not in MIXERS:
        raise ValueError(
            f"the mixer must be one of {', '.join(MIXERS)}. Received: {name}"
        )

    def leave(values, seed, weights):
        del seed
        return values, tf.range(tf.shape(values)[0]), tf.ones_like(weights)

    def mixup(values, seed, weights):
        order, *_ = _draw_for_mixing(seed, weights)
        partner = choose_partners(order, weights)
        gammas = tf.random.stateless_gamma([tf.shape(weights)[0], 2], seed, alpha=0.2)
        # Both can be too small for a float.
        share = tf.math.divide_no_nan(gammas[:, 0], tf.reduce_sum(gammas, axis=1))
        share = tf.where(weights > 0, share, 1.0)
        wide = tf.reshape(
            share, tf.concat([[-1], tf.ones_like(tf.shape(values)[1:])], 0)
        )
        wide = tf.cast(wide, values.dtype)
        return wide * values + (1 - wide) * tf.gather(values, partner), partner, share

    def cutmix(values, seed, weights):
        order, area, *centre = _draw_for_mixing(seed, weights)
        partner = choose_partners(order, weights)
        area = tf.where(weights > 0, area, 0.0)
        inside_y, inside_x = (
            _inside(tf.shape(values)[axis], tf.sqrt(area), centre[axis - 1])
            for axis in (1, 2)
        )
        inside = inside_y[:, :, tf.newaxis] & inside_x[:, tf.newaxis, :]
        kept = tf.math.count_nonzero(~inside, axis=[1, 2], dtype=tf.int32)
        share = tf.cast(kept / tf.size(inside[0]), tf.float32)
        mixed = tf.where(inside[..., tf.newaxis], tf.gather(values, partner), values)
        return mixed, partner, share

    return {"none": leave, "mixup": mixup, "cutmix": cutmix}[name]


def _draw_for_mixing(seed, weights):
    """Four float32 [B], uniform in [0, 1)."""
    seeds = counter_rng.row_seeds(seed, tf.range(tf.shape(weights)[0]))
    return tf.unstack(counter_rng.uniforms(seeds, 4, stream=2), axis=1)


def _inside(size, side_share, centre):
    """Bool [B, size]: the pixels of a side, cut at the borders, about a centre."""
    side = tf.cast(side_share * tf.cast(size, tf.float32), tf.int32)[:, tf.newaxis]
    middle = tf.cast(centre * tf.cast(size, tf.float32), tf.int32)[:, tf.newaxis]
    place = tf.range(size)
    return (place >= middle - side // 2) & (place < middle - side // 2 + side)


def choose_partners(order: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Pairs each row that counts with the next in the order; the others with itself.

    order: float32 [B], range [0, 1). weights: float32 [B]. Returns int32 [B]; two rows
    or more that count are each the partner of exactly one other, none of itself.
    """
    counts = weights > 0
    count = tf.reduce_sum(tf.cast(counts, tf.int32))
    rows = tf.range(tf.shape(weights)[0])
    ordered = tf.argsort(tf.where(counts, order, 2.0))
    after = tf.gather(ordered, tf.math.floormod(rows + 1, tf.maximum(count, 1)))
    partners = tf.where(rows < count, after, ordered)
    return tf.tensor_scatter_nd_update(rows, ordered[:, tf.newaxis], partners)
