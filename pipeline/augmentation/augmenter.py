"""Builds the function that augments a batch of images."""

from collections.abc import Callable

import tensorflow as tf

from pipeline.augmentation.affine import RandomAffine
from pipeline.augmentation.color import adjust_colors
from pipeline.augmentation.counter_rng import uniforms
from pipeline.augmentation.presets import PRESETS, canonical_preset

# (images, seeds) -> images; see build_augmenter.
Augmenter = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def build_augmenter(preset: str, *, xla: bool = True) -> Augmenter:
    """Builds augment(images, seeds) -> images, with one seed for each image.

    images: uint8 or float32 [B, H, W, 3], range [0, 255]; the result is float32 and
    has the same shape and range. seeds: int32 [B, 2]. The result for an image depends
    on its own seed, not on its place in the batch. row_seeds((seed, view), examples)
    gives the seeds of one view of each example.

    Args:
      preset: a name in PRESETS, or one of its aliases.
      xla: compile the work on the pixels with XLA.

    Raises:
      ValueError: unknown preset.
    """
    name = canonical_preset(preset)
    if name not in PRESETS:
        raise ValueError(
            f"--augment must be one of {', '.join(PRESETS)}. Received: "
            f"--augment={preset}"
        )
    if name == "none":
        return lambda images, seeds: tf.cast(images, tf.float32)
    limits = PRESETS[name]
    affine = RandomAffine(
        flip=limits.flip,
        shear=limits.shear,
        zoom=limits.zoom,
        rotation_degrees=limits.rotation_degrees,
        translation=limits.translation,
    )
    changes_color = any(
        (limits.contrast, limits.brightness, limits.saturation, limits.hue)
    )

    # Separate compiled functions: in one, XLA would resample the image again for each
    # channel that the new colours are made of.
    @tf.function(autograph=False, jit_compile=xla or None)
    def transform(images, seeds):
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        matrices = affine.draw_matrices(seeds, height=height, width=width)
        return affine.augment_images(tf.cast(images, tf.float32), matrices)

    @tf.function(autograph=False, jit_compile=xla or None)
    def recolor(images, seeds):
        signed = 2 * uniforms(seeds, 4, stream=1) - 1
        return adjust_colors(
            images,
            contrast=1 + limits.contrast * signed[:, 0] if limits.contrast else None,
            brightness=255 * limits.brightness * signed[:, 1],
            saturation=1 + limits.saturation * signed[:, 2],
            hue=limits.hue * signed[:, 3],
        )

    def augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        transformed = transform(images, seeds)
        return recolor(transformed, seeds) if changes_color else transformed

    return augment
