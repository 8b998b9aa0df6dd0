"""build_augmenter(): random changes to training images, on the device batch.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.
"""

from collections.abc import Callable

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
    if preset == "notebook":
        return _build_affine(shear=0.2, zoom=0.2, flip=True)
    raise ValueError(
        f"--augment must be one of {', '.join(PRESETS)}. Received: --augment={preset}"
    )


def _build_affine(*, shear: float, zoom: float, flip: bool) -> Augmenter:
    """Shear, zoom and flip about the image's centre, resampled once.

    keras-cv's RandomShear, RandomZoom and RandomFlip would resample three times, blur
    three times, shear about a corner, and draw from state that a resumed run does not
    have. Here they are one matrix an image, on keras-cv's vectorised base class, and
    one call of the op that its layers use. Edges are extended by their nearest pixel.
    """
    import keras_cv

    class RandomAffine(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
        def get_random_transformation_batch(self, batch_size, **kwargs):
            del kwargs
            seed = tf.cast(self._random_generator.make_seeds()[:, 0] >> 33, tf.int32)
            return self.draw(batch_size, seed)

        def draw(self, batch_size, seed):
            return _draw_affine(batch_size, seed, shear=shear, zoom=zoom, flip=flip)

        def augment_images(self, images, transformations, **kwargs):
            del kwargs
            height, width = images.shape[1], images.shape[2]
            return tf.raw_ops.ImageProjectiveTransformV3(
                images=images,
                transforms=centred_transforms(
                    transformations, height=height, width=width
                ),
                output_shape=[height, width],
                fill_value=0.0,
                interpolation="BILINEAR",
                fill_mode="NEAREST",
            )

    # float32 whatever the global policy: half precision would round the pixels.
    layer = RandomAffine(dtype="float32")

    def augment(images, seed):
        transformations = layer.draw(tf.shape(images)[0], seed)
        return layer.augment_images(images, transformations)

    return augment


def _draw_affine(
    batch_size: tf.Tensor, seed: tf.Tensor, *, shear: float, zoom: float, flip: bool
) -> tf.Tensor:
    """Draws float32 [B, 2, 2]: output offsets from the centre -> input offsets."""
    uniform = tf.random.stateless_uniform([batch_size, 4], seed)
    shear_x = shear * (2 * uniform[:, 0] - 1)
    zoom_x = 1 + zoom * (2 * uniform[:, 1] - 1)
    zoom_y = 1 + zoom * (2 * uniform[:, 2] - 1)
    mirror = tf.where(flip & (uniform[:, 3] < 0.5), -1.0, 1.0)
    # One product: first shear, then zoom, then mirror.
    top = tf.stack([mirror * zoom_x, shear_x * zoom_y], axis=1)
    bottom = tf.stack([tf.zeros_like(zoom_y), zoom_y], axis=1)
    return tf.stack([top, bottom], axis=1)


def centred_transforms(matrices: tf.Tensor, *, height: int, width: int) -> tf.Tensor:
    """float32 [B, 2, 2] about the centre -> float32 [B, 8] projective transforms.

    The rows are in the order that ImageProjectiveTransformV3 takes.
    """
    centre = tf.constant([(width - 1) / 2, (height - 1) / 2], tf.float32)
    offset = centre - tf.linalg.matvec(matrices, centre)
    affine = tf.concat([matrices, offset[:, :, tf.newaxis]], axis=2)
    rows = tf.reshape(affine, [-1, 6])
    return tf.pad(rows, [[0, 0], [0, 2]])
