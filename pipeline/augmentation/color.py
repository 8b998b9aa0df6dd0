"""Changes contrast, brightness, saturation and hue with one matrix per image."""

import math

import numpy as np
import tensorflow as tf

# RGB -> NTSC's YIQ, as in tf.image.rgb_to_yiq; the chroma is the plane of I and Q.
_YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.59590059, -0.27455667, -0.32134392],
        [0.21153661, -0.52273617, 0.31119955],
    ]
)
_LUMA = np.repeat(_YIQ[:1], 3, axis=0).astype(np.float32)
_CHROMA = np.eye(3, dtype=np.float32) - _LUMA
# A quarter turn of the chroma, in the direction from red to green.
_TURNED_CHROMA = (
    np.linalg.inv(_YIQ) @ [[0, 0, 0], [0, 0, 1], [0, -1, 0]] @ _YIQ
).astype(np.float32)


def adjust_colors(
    images: tf.Tensor,
    *,
    contrast: tf.Tensor | None,
    brightness: tf.Tensor,
    saturation: tf.Tensor,
    hue: tf.Tensor,
) -> tf.Tensor:
    """Changes contrast, brightness, saturation and hue, in this order.

    All four are linear in a pixel, so one 3 x 4 matrix and one clip apply them. To clip
    after each operation would differ where one leaves the range and a later one returns
    to it. Contrast is about the mean of each channel over the image, as in tf.image and
    keras-cv. Saturation and hue scale and rotate the chroma plane of NTSC's YIQ and
    keep the luma. For saturation this equals the blend with grey of keras-cv's
    RandomColorDegeneration. For hue it is the rotation of SVG's feColorMatrix, which
    is close to tf.image.adjust_hue but not equal: that one follows the HSV hexagon,
    whose branches no matrix expresses.

    Args:
      images: float32 [B, H, W, 3], range [0, 255], as is the result.
      contrast, saturation: float32 [B], factors. A contrast of None is not computed.
      brightness: float32 [B], added to each channel, on the scale [0, 255].
      hue: float32 [B], in turns; a positive one moves red towards green.
    """
    angle = 2 * math.pi * hue
    chroma_cos, chroma_sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    matrix = (
        _LUMA
        + chroma_cos[:, tf.newaxis, tf.newaxis] * _CHROMA
        + chroma_sin[:, tf.newaxis, tf.newaxis] * _TURNED_CHROMA
    )
    # Brightness is grey, which neither saturation nor hue changes.
    offset = tf.repeat(brightness[:, tf.newaxis], 3, axis=1)
    if contrast is not None:
        means = tf.reduce_mean(images, axis=[1, 2])
        grey = means * (1 - contrast)[:, tf.newaxis]
        offset += tf.reduce_sum(matrix * grey[:, tf.newaxis, :], axis=2)
        matrix *= contrast[:, tf.newaxis, tf.newaxis]
    # Not a matmul, which may round to ten bits on a GPU.
    changed = offset[:, tf.newaxis, tf.newaxis, :]
    for channel in range(3):
        column = matrix[:, tf.newaxis, tf.newaxis, :, channel]
        changed += images[..., channel : channel + 1] * column
    return tf.clip_by_value(changed, 0.0, 255.0)
