"""Random changes to training images, on the device batch: augmenters and mixers.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.

Nothing here has state: every result is a function of its inputs and its seed, so a run
that continues repeats nothing and loses nothing, and a cached view can be made again.
"""

import numpy as np
import tensorflow as tf

_THREEFRY_PARITY = np.uint32(0x1BD11BDA)
_THREEFRY_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def row_seeds(seed: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """One seed a row, int32 [B, 2], from seed int32 [2] and rows int32 [B]."""
    counter = _unsigned(rows)
    parts = threefry(tf.unstack(_unsigned(seed)), (counter, tf.zeros_like(counter)))
    return tf.bitcast(tf.stack(parts, axis=1), tf.int32)


def uniforms(seeds: tf.Tensor, count: int, *, stream: int) -> tf.Tensor:
    """float32 [B, count], uniform in [0, 1); row by row from seeds int32 [B, 2].

    tf.random's stateless ops take one seed for all rows. Streams of one seed are
    independent of each other.
    """
    key = tf.unstack(_unsigned(seeds)[:, :, tf.newaxis], axis=1)
    pairs = np.arange((count + 1) // 2, dtype=np.uint32)[np.newaxis]
    words = threefry(key, (pairs, np.uint32([[stream]])))
    bits = tf.reshape(tf.stack(words, axis=2), [tf.shape(seeds)[0], pairs.size * 2])
    # The upper 24 bits: what a float32 below 1 can hold evenly.
    upper = tf.bitcast(tf.bitwise.right_shift(bits, np.uint32(8)), tf.int32)
    return tf.cast(upper[:, :count], tf.float32) * 2.0**-24


def threefry(key, counter):
    """Threefry-2x32 of 20 rounds (Salmon et al., 2011).

    Integer additions, rotations and exclusive ors alone, so the same bits on every
    device, compiled or not.

    Args:
      key, counter: two uint32 tensors each, of shapes that broadcast.

    Returns:
      two uint32 tensors, all of whose bits look independent and even.
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


def _rotate(words, bits):
    up = tf.bitwise.left_shift(words, np.uint32(bits))
    return up | tf.bitwise.right_shift(words, np.uint32(32 - bits))


def _unsigned(integers):
    return tf.bitcast(tf.cast(integers, tf.int32), tf.uint32)
