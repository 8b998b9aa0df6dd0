"""build_augmenter(): random changes to training images, on the device batch.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.
"""

from collections.abc import Callable

import keras_cv
import tensorflow as tf

PRESETS = ("notebook", "none")

Augmenter = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def build_augmenter(preset: str) -> Augmenter:
    """Builds augment(images, seed) -> images.

    images: float32 [B, H, W, 3], range [0, 255]; the result has the same shape and
    range. seed: int32 [2]; the same seed gives the same result (the randomness has no
    state, so a resumed run repeats nothing and loses nothing).

    Args:
      preset: "notebook" (shear 0.2, zoom 0.2 on each axis, horizontal flip) or "none".

    Raises:
      ValueError: unknown preset.
    """
    if preset == "none":
        return lambda images, seed: images
    if preset != "notebook":
        raise ValueError(
            f"--augment must be one of {', '.join(PRESETS)}. Received: "
            f"--augment={preset}"
        )
    layer = RandomAffine(shear=0.2, zoom=0.2, flip=True)

    def augment(images, seed):
        matrices = layer.draw_matrices(tf.shape(images)[0], seed)
        return layer.augment_images(images, matrices)

    return augment


class RandomAffine(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """Shear, zoom and flip about the image's centre, resampled once.

    keras-cv's RandomShear, RandomZoom and RandomFlip in a row resample three times,
    blur three times, shear about a corner, and draw from state that a resumed run does
    not have. Here they are one matrix an image and one call of the op that those
    layers use. Edges are extended by their nearest pixel.

    Args:
      shear: the horizontal shift a row is uniform in [-shear, shear], in rows.
      zoom: each axis is scaled by its own factor, uniform in [1 - zoom, 1 + zoom].
      flip: mirror every second image, by chance, left to right.
    """

    def __init__(self, *, shear: float, zoom: float, flip: bool):
        # float32 whatever the global policy: half precision would round the pixels.
        super().__init__(dtype="float32")
        self._shear = shear
        self._zoom = zoom
        self._flip = flip

    def draw_matrices(self, batch_size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws float32 [B, 2, 2]: output offsets from the centre -> input offsets."""
        uniform = tf.random.stateless_uniform([batch_size, 4], seed)
        shear_x = self._shear * (2 * uniform[:, 0] - 1)
        zoom_x = 1 + self._zoom * (2 * uniform[:, 1] - 1)
        zoom_y = 1 + self._zoom * (2 * uniform[:, 2] - 1)
        mirror = tf.where(self._flip & (uniform[:, 3] < 0.5), -1.0, 1.0)
        # The product of the three: the image is sheared, then zoomed, then mirrored.
        top = tf.stack([mirror * zoom_x, shear_x * zoom_y], axis=1)
        bottom = tf.stack([tf.zeros_like(zoom_y), zoom_y], axis=1)
        return tf.stack([top, bottom], axis=1)

    def get_random_transformation_batch(self, batch_size, **kwargs):
        """What keras-cv calls where the layer is used by itself, without a seed."""
        del kwargs
        seed = self._random_generator.make_seeds(1)[:, 0]
        return self.draw_matrices(batch_size, seed)

    def augment_images(self, images, transformations, **kwargs):
        """Resamples float32 [B, H, W, C] by matrices [B, 2, 2]."""
        del kwargs
        height, width = images.shape[1], images.shape[2]
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=centred_transforms(transformations, height=height, width=width),
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )


def centred_transforms(matrices: tf.Tensor, *, height: int, width: int) -> tf.Tensor:
    """float32 [B, 2, 2] about the centre -> float32 [B, 8] projective transforms.

    The rows are in the order that ImageProjectiveTransformV3 takes.
    """
    centre = tf.constant([(width - 1) / 2, (height - 1) / 2], tf.float32)
    offset = centre - tf.linalg.matvec(matrices, centre)
    affine = tf.concat([matrices, offset[:, :, tf.newaxis]], axis=2)
    return tf.pad(tf.reshape(affine, [-1, 6]), [[0, 0], [0, 2]])
