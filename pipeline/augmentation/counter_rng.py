"""Draws random numbers from one seed per image, the same bits on every device.

The stateless random functions of TensorFlow take one seed for a whole batch. Here each
row of a batch has its own seed (a counter-based generator: Threefry).
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_THREEFRY_PARITY = np.uint32(0x1BD11BDA)
_THREEFRY_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def row_seeds(seed: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Derives one seed per row, int32 [B, 2], from seed int32 [2], rows int32 [B]."""
    counter = _unsigned(rows)
    parts = threefry(tf.unstack(_unsigned(seed)), (counter, tf.zeros_like(counter)))
    return tf.bitcast(tf.stack(parts, axis=1), tf.int32)


def uniforms(seeds: tf.Tensor, count: int, *, stream: int) -> tf.Tensor:
    """Draws float32 [B, count], uniform in [0, 1), from seeds int32 [B, 2].

    stream: streams of the same seed are independent of one another.
    """
    key = tf.unstack(_unsigned(seeds)[:, :, tf.newaxis], axis=1)
    pairs = np.arange((count + 1) // 2, dtype=np.uint32)[np.newaxis]
    words = threefry(key, (pairs, np.array([[stream]], np.uint32)))
    bits = tf.reshape(tf.stack(words, axis=2), [tf.shape(seeds)[0], pairs.size * 2])
    # The upper 24 bits are all that a float32 in [0, 1) holds with even spacing.
    upper = tf.bitcast(tf.bitwise.right_shift(bits, np.uint32(8)), tf.int32)
    return tf.cast(upper[:, :count], tf.float32) * 2.0**-24


def threefry(
    key: Sequence[tf.Tensor], counter: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes Threefry-2x32 with 20 rounds (Salmon et al., 2011).

    It uses only integer additions, rotations and exclusive ors, so it gives the same
    bits on every device, compiled or not.

    Args:
      key, counter: two uint32 tensors each, of shapes that broadcast.

    Returns:
      Two uint32 tensors whose bits look independent and uniform.
    """
    keys = [*key, key[0] ^ key[1] ^ _THREEFRY_PARITY]
    left, right = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for bits in _THREEFRY_ROTATIONS[group % 2]:
            left += right
            right = left ^ _rotate(right, bits)
        left += keys[(group + 1) % 3]
        right += keys[(group + 2) % 3] + np.uint32(group + 1)
    return left, right


def _rotate(words: tf.Tensor, bits: int) -> tf.Tensor:
    up = tf.bitwise.left_shift(words, np.uint32(bits))
    return up | tf.bitwise.right_shift(words, np.uint32(32 - bits))


def _unsigned(integers: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.cast(integers, tf.int32), tf.uint32)
