"""Shears, zooms, rotates, shifts and mirrors images, with one resampling."""

import math

import keras_cv
import tensorflow as tf

from pipeline.augmentation import counter_rng


class RandomAffine(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """Applies shear, zoom, rotation, translation and mirror, in this order.

    The separate layers of keras-cv would each resample and blur the image, shear about
    a corner, and draw from state that a resumed run does not have. Here the operations
    are one matrix for each image, about its centre, and one bilinear resampling. It
    uses operations that XLA can compile, which the projective transform behind those
    layers is not. Positions outside the image take the nearest pixel.

    Args: see presets.Preset.
    """

    def __init__(
        self,
        *,
        flip: bool = False,
        shear: float = 0.0,
        zoom: float = 0.0,
        rotation_degrees: float = 0.0,
        translation: float = 0.0,
    ):
        # float32 under every global policy: half precision would round the pixels.
        super().__init__(dtype="float32")
        self._flip = flip
        self._shear = shear
        self._zoom = zoom
        self._rotation_degrees = rotation_degrees
        self._translation = translation

    def draw_matrices(
        self, seeds: tf.Tensor, *, height: tf.Tensor | int, width: tf.Tensor | int
    ) -> tf.Tensor:
        """Draws matrices float32 [B, 2, 3] from seeds int32 [B, 2]; see compose()."""
        uniform = counter_rng.uniforms(seeds, 7, stream=0)
        signed = 2 * uniform - 1
        return compose(
            shear=self._shear * signed[:, 0],
            zoom_x=1 + self._zoom * signed[:, 1],
            zoom_y=1 + self._zoom * signed[:, 2],
            angle=self._rotation_degrees * math.pi / 180 * signed[:, 3],
            shift_x=self._translation * tf.cast(width, tf.float32) * signed[:, 4],
            shift_y=self._translation * tf.cast(height, tf.float32) * signed[:, 5],
            mirror=tf.where(self._flip & (uniform[:, 6] < 0.5), -1.0, 1.0),
        )

    def get_random_transformation_batch(self, batch_size, images=None, **kwargs):
        """Draws matrices without seeds, where keras-cv calls the layer by itself."""
        del kwargs
        seed = tf.cast(self._random_generator.make_seeds(1)[:, 0], tf.int32)
        seeds = counter_rng.row_seeds(seed, tf.range(batch_size))
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        return self.draw_matrices(seeds, height=height, width=width)

    def augment_images(self, images, transformations, **kwargs):
        """Resamples float32 [B, H, W, C] by matrices [B, 2, 3]."""
        del kwargs
        return resample(images, transformations)


def compose(
    *,
    shear: tf.Tensor,
    zoom_x: tf.Tensor,
    zoom_y: tf.Tensor,
    angle: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    mirror: tf.Tensor,
) -> tf.Tensor:
    """Multiplies the matrices of the operations, each about the centre of the image.

    Args:
      shear, zoom_x, zoom_y, angle, shift_x, shift_y, mirror: float32 [B]. A zoom of 2
        halves the size of the picture; a positive angle (radians) turns it
        counter-clockwise; a positive shift (pixels) moves it right or down; a mirror of
        -1 mirrors it, 1 does not.

    Returns:
      float32 [B, 2, 3]: from output to input positions, in pixels from the centre. It
      is the product shear @ zoom @ rotation @ translation @ mirror of the matrices that
      the layers of keras-cv use.
    """
    # Not a matmul, which may round to ten bits on a GPU and so move pixels.
    cos, sin = tf.cos(angle), tf.sin(angle)
    xx, xy = zoom_x * cos + shear * zoom_y * sin, shear * zoom_y * cos - zoom_x * sin
    yx, yy = zoom_y * sin, zoom_y * cos
    row_x = [xx * mirror, xy, -xx * shift_x - xy * shift_y]
    row_y = [yx * mirror, yy, -yx * shift_x - yy * shift_y]
    return tf.stack([tf.stack(row_x, axis=1), tf.stack(row_y, axis=1)], axis=1)


def resample(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Resamples images bilinearly.

    Args:
      images: float32 [B, H, W, C]; the result has the same shape.
      matrices: float32 [B, 2, 3], from output to input positions, in pixels from the
        centre. Positions outside the image take the nearest pixel.
    """
    shape = tf.shape(images)
    height, width = shape[1], shape[2]
    last_x, last_y = tf.cast(width - 1, tf.float32), tf.cast(height - 1, tf.float32)
    x = (tf.range(width, dtype=tf.float32) - last_x / 2)[tf.newaxis, tf.newaxis, :]
    y = (tf.range(height, dtype=tf.float32) - last_y / 2)[tf.newaxis, :, tf.newaxis]
    xx, xy, x0, yx, yy, y0 = (
        tf.reshape(part, [-1, 1, 1])
        for part in tf.unstack(tf.reshape(matrices, [-1, 6]), axis=1)
    )
    from_x = tf.clip_by_value(xx * x + xy * y + x0 + last_x / 2, 0.0, last_x)
    from_y = tf.clip_by_value(yx * x + yy * y + y0 + last_y / 2, 0.0, last_y)
    left, top = tf.cast(from_x, tf.int32), tf.cast(from_y, tf.int32)
    right, bottom = tf.minimum(left + 1, width - 1), tf.minimum(top + 1, height - 1)
    right_weight = (from_x - tf.cast(left, tf.float32))[..., tf.newaxis]
    bottom_weight = (from_y - tf.cast(top, tf.float32))[..., tf.newaxis]
    pixels = tf.reshape(images, [shape[0], height * width, shape[3]])

    def look_up(row, column):
        places = tf.reshape(row * width + column, [shape[0], -1])
        return tf.reshape(tf.gather(pixels, places, batch_dims=1), shape)

    above, below = (
        look_up(row, left) * (1 - right_weight) + look_up(row, right) * right_weight
        for row in (top, bottom)
    )
    resampled = above * (1 - bottom_weight) + below * bottom_weight
    return tf.ensure_shape(resampled, images.shape)
