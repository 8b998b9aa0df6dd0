"""Random changes to training images, on the device batch: augmenters and mixers.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.

Nothing here has state: every result is a function of its inputs and its seed, so a run
that continues repeats nothing and loses nothing, and a cached view can be made again.
"""

import dataclasses
import math
from collections.abc import Callable

import keras_cv
import numpy as np
import tensorflow as tf

Augmenter = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Mixer = Callable[
    [tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]
]

MIXERS = ("none", "mixup", "cutmix")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How far each operation may go; 0 leaves it out.

    flip: mirror every second image, by chance, left to right.
    shear: a row is shifted by up to this many times its distance from the centre.
    zoom: each axis is scaled by its own factor in [1 - zoom, 1 + zoom].
    rotation_degrees: up to this, either way.
    translation: up to this share of the width and, by its own draw, of the height.
    contrast, saturation: a factor in [1 - x, 1 + x].
    brightness: up to this share of 255 is added or taken.
    hue: up to this share of a full turn, either way.
    """

    flip: bool = False
    shear: float = 0.0
    zoom: float = 0.0
    rotation_degrees: float = 0.0
    translation: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


_PRESETS = {
    "notebook": Preset(flip=True, shear=0.2, zoom=0.2),
    "light": Preset(
        flip=True,
        zoom=0.1,
        rotation_degrees=5,
        translation=0.05,
        contrast=0.1,
        brightness=0.05,
    ),
    "strong": Preset(
        flip=True,
        shear=0.2,
        zoom=0.3,
        rotation_degrees=20,
        translation=0.1,
        contrast=0.4,
        brightness=0.15,
        saturation=0.4,
        hue=0.04,
    ),
    "none": Preset(),
}
PRESETS = tuple(_PRESETS)

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
# A quarter turn of the chroma, in the sense in which red goes towards green.
_TURNED_CHROMA = (
    np.linalg.inv(_YIQ) @ [[0, 0, 0], [0, 0, 1], [0, -1, 0]] @ _YIQ
).astype(np.float32)

_THREEFRY_PARITY = np.uint32(0x1BD11BDA)
_THREEFRY_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


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
    if preset not in PRESETS:
        raise ValueError(
            f"--augment must be one of {', '.join(PRESETS)}. Received: "
            f"--augment={preset}"
        )
    if preset == "none":
        return lambda images, seeds: images
    chosen = _PRESETS[preset]
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
        signed = 2 * uniforms(seeds, 4, stream=1) - 1
        return adjust_colours(
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


class RandomAffine(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """Shear, zoom, rotation, translation and mirror, in this order, resampled once.

    keras-cv's separate layers in a row resample and blur once each, shear about a
    corner, and draw from state that a resumed run does not have. Here they are one
    matrix an image, about its centre, and one bilinear look at the pixels, in ops that
    XLA can compile, which the projective transform behind those layers is not. Edges
    are extended by their nearest pixel.

    Args: as in Preset.
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
        # float32 whatever the global policy: half precision would round the pixels.
        super().__init__(dtype="float32")
        self._flip = flip
        self._shear = shear
        self._zoom = zoom
        self._rotation_degrees = rotation_degrees
        self._translation = translation

    def draw_matrices(
        self, seeds: tf.Tensor, *, height: tf.Tensor | int, width: tf.Tensor | int
    ) -> tf.Tensor:
        """Draws float32 [B, 2, 3] by seeds int32 [B, 2]: see compose."""
        uniform = uniforms(seeds, 7, stream=0)
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
        """What keras-cv calls where the layer is used by itself, without a seed."""
        del kwargs
        seed = tf.cast(self._random_generator.make_seeds(1)[:, 0], tf.int32)
        seeds = row_seeds(seed, tf.range(batch_size))
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
    """float32 [B] each -> float32 [B, 2, 3], from output to input offsets in pixels.

    The product shear @ zoom @ rotation @ translation @ mirror of the matrices that
    keras-cv's layers use, each about the centre: applied to an output position from
    the right, so to the image from the left. A zoom of 2 halves the picture, a positive
    angle (radians) turns it counter-clockwise, a positive shift moves it right or down,
    a mirror of -1 mirrors it and one of 1 does not.
    """
    # Written out: a matmul may round to ten bits on a GPU, which moves pixels.
    cos, sin = tf.cos(angle), tf.sin(angle)
    xx, xy = zoom_x * cos + shear * zoom_y * sin, shear * zoom_y * cos - zoom_x * sin
    yx, yy = zoom_y * sin, zoom_y * cos
    to_x = [xx * mirror, xy, -xx * shift_x - xy * shift_y]
    to_y = [yx * mirror, yy, -yx * shift_x - yy * shift_y]
    return tf.stack([tf.stack(to_x, axis=1), tf.stack(to_y, axis=1)], axis=1)


def resample(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Looks float32 [B, H, W, C] up, bilinearly, where matrices [B, 2, 3] say.

    A matrix takes an output position, in pixels from the centre, to an input position.
    Positions outside take the nearest pixel.
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
    right_share = (from_x - tf.cast(left, tf.float32))[..., tf.newaxis]
    bottom_share = (from_y - tf.cast(top, tf.float32))[..., tf.newaxis]
    pixels = tf.reshape(images, [shape[0], height * width, shape[3]])

    def look_up(row, column):
        places = tf.reshape(row * width + column, [shape[0], -1])
        return tf.reshape(tf.gather(pixels, places, batch_dims=1), shape)

    above, below = (
        look_up(row, left) * (1 - right_share) + look_up(row, right) * right_share
        for row in (top, bottom)
    )
    resampled = above * (1 - bottom_share) + below * bottom_share
    return tf.ensure_shape(resampled, images.shape)


def adjust_colours(
    images: tf.Tensor,
    *,
    contrast: tf.Tensor | None,
    brightness: tf.Tensor,
    saturation: tf.Tensor,
    hue: tf.Tensor,
) -> tf.Tensor:
    """Contrast, brightness, saturation and hue, in this order, as one 3x4 matrix.

    All four are linear in a pixel, so one product and one clip apply them; clipping
    after each would differ where one leaves the range and a later one returns.
    Contrast is about the mean of each channel over the image, as in tf.image and
    keras-cv. Saturation and hue scale and rotate the chroma plane of NTSC's YIQ and
    keep the luma. For saturation this is the blend with grey of keras-cv's
    RandomColorDegeneration; for hue it is the rotation of SVG's feColorMatrix, which
    is near to but not the walk round the HSV hexagon of tf.image.adjust_hue, whose
    branches no matrix expresses.

    Args:
      images: float32 [B, H, W, 3], range [0, 255], as is the result.
      contrast, saturation: float32 [B], factors. A contrast of None spares the mean.
      brightness: float32 [B], added, in steps of [0, 255].
      hue: float32 [B], turns; red goes towards green.
    """
    angle = 2 * math.pi * hue
    along, across = saturation * tf.cos(angle), saturation * tf.sin(angle)
    matrix = (
        _LUMA
        + along[:, tf.newaxis, tf.newaxis] * _CHROMA
        + across[:, tf.newaxis, tf.newaxis] * _TURNED_CHROMA
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
    seeds = row_seeds(seed, tf.range(tf.shape(weights)[0]))
    return tf.unstack(uniforms(seeds, 4, stream=2), axis=1)


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
