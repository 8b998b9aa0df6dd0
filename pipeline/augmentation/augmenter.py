"""Random changes to training images, on the device batch: augmenters and mixers.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.

Nothing here has state: every result is a function of its inputs and its seed, so a run
that continues repeats nothing and loses nothing, and a cached view can be made again.
"""

from collections.abc import Callable

import tensorflow as tf

from pipeline.augmentation import color, counter_rng
from pipeline.augmentation.affine import RandomAffine
from pipeline.augmentation.presets import PRESET_NAMES, PRESETS

Augmenter = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def build_augmenter(preset: str, *, xla: bool = True) -> Augmenter:
    """Builds augment(images, seeds) -> images, for one seed an image.

    images: float32 [B, H, W, 3], range [0, 255]; the result has the same shape and
    range. seeds: int32 [B, 2]. What becomes of an image depends on its own seed alone,
    not on its place in the batch; row_seeds((seed, view), examples) gives the seeds of
    one view of each example.

    Args:
      preset: one of PRESETS.
      xla: compile the work on the pixels. Without, the same ops run one by one.

    Raises:
      ValueError: unknown preset.
    """
    if preset not in PRESET_NAMES:
        raise ValueError(
            f"--augment must be one of {', '.join(PRESET_NAMES)}. Received: "
            f"--augment={preset}"
        )
    if preset == "none":
        return lambda images, seeds: images
    chosen = PRESETS[preset]
    affine = RandomAffine(
        flip=chosen.flip,
        shear=chosen.shear,
        zoom=chosen.zoom,
        rotation_degrees=chosen.rotation_degrees,
        translation=chosen.translation,
    )

    # Two functions, for in one XLA would resample anew for each channel that the
    # colours are made of.
    @tf.function(jit_compile=xla or None)
    def move(images, seeds):
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        matrices = affine.draw_matrices(seeds, height=height, width=width)
        return affine.augment_images(images, matrices)

    @tf.function(jit_compile=xla or None)
    def recolour(images, seeds):
        signed = 2 * counter_rng.uniforms(seeds, 4, stream=1) - 1
        return color.adjust_colors(
            images,
            contrast=1 + chosen.contrast * signed[:, 0] if chosen.contrast else None,
            brightness=255 * chosen.brightness * signed[:, 1],
            saturation=1 + chosen.saturation * signed[:, 2],
            hue=chosen.hue * signed[:, 3],
        )

    def augment(images, seeds):
        moved = move(images, seeds)
        colours = (chosen.contrast, chosen.brightness, chosen.saturation, chosen.hue)
        return recolour(moved, seeds) if any(colours) else moved

    return augment
