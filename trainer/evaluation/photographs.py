"""Prepares photographs for the report: errors, unusual ones, augmented ones."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from pipeline import decoding
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.augmentation.counter_rng import row_seeds
from pipeline.loading.prepared_data import Records
from trainer.evaluation.saliency import compute_heat
from trainer.models.classifier import Classifier, compute_features

_MAX_ERRORS = 12
_MAX_UNUSUAL = 8
_NUM_AUGMENTED = 4
_NUM_VIEWS = 4
_MAX_SIDE_PX = 224
_JPEG_QUALITY = 80


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One photograph in the report.

    sources: JPEG files as data URIs: the photograph, and the pictures beside it.
    alt: the text for a reader who cannot see the photograph.
    caption: the line below it. name: its name in the source.
    """

    sources: Sequence[str]
    alt: str
    caption: str
    name: str


def show_errors(
    classifier: Classifier,
    records: Records,
    names: Sequence[str],
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    image_size: int,
) -> list[Photograph]:
    """Shows the wrong predictions with the highest confidence beside their heat maps.

    probabilities: float [N, K], range [0, 1], in the order of the records.
    names, labels: of the same N photographs; labels int [N].
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    by_confidence = wrong[np.argsort(-probabilities[wrong].max(axis=1))]
    positions = by_confidence[:_MAX_ERRORS].tolist()
    if not positions:
        return []
    images = _read_images(records, positions, image_size)
    # A tensor: the normalisation of some backbones would change a NumPy array in place.
    heats = _compute_heats(classifier, tf.constant(images))
    shown = []
    for position, image, heat in zip(positions, images, heats, strict=True):
        truth, guess = classes[labels[position]], classes[predicted[position]]
        confidence = probabilities[position].max()
        shown.append(
            Photograph(
                sources=[_encode(image), _encode(_overlay(image, heat))],
                alt=f"A {truth} taken for {guess}, and where the network looked",
                caption=f"{truth}, taken for {guess} ({confidence:.0%})",
                name=names[position],
            )
        )
    return shown


def show_unusual(
    records: Records,
    names: Sequence[str],
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    image_size: int,
) -> list[Photograph]:
    """Shows the photographs with the highest unknown scores, the highest first.

    scores: float [N], in the order of the records. labels: int [N].
    """
    positions = np.argsort(-scores)[:_MAX_UNUSUAL].tolist()
    images = _read_images(records, positions, image_size)
    return [
        Photograph(
            sources=[_encode(image)],
            alt=f"A {classes[labels[position]]} unlike the training images",
            caption=f"{classes[labels[position]]}, score {scores[position]:.1f}",
            name=names[position],
        )
        for position, image in zip(positions, images, strict=True)
    ]


def show_augmented(
    records: Records, *, classes: Sequence[str], preset: str, image_size: int
) -> list[Photograph]:
    """Shows some training images, each followed by some of its augmented variants.

    records: the training split. preset: value of --augment.
    """
    examples = list(records.dataset.take(_NUM_AUGMENTED).as_numpy_iterator())
    augment = build_augmenter(preset, xla=False)
    shown = []
    for example in examples:
        image = decoding.decode_and_resize(example["image_bytes"], image_size)
        views = tf.repeat(image[tf.newaxis], _NUM_VIEWS, axis=0)
        seeds = row_seeds(tf.constant([0, 1]), tf.range(_NUM_VIEWS))
        label = classes[example["label"]]
        shown.append(
            Photograph(
                sources=[_encode(image.numpy()), *map(_encode, augment(views, seeds))],
                alt=f"A {label} and {_NUM_VIEWS} augmented variants of it",
                caption=f"{label}: as it is, then {_NUM_VIEWS} variants",
                name=example["name"].decode(),
            )
        )
    return shown


def _read_images(
    records: Records, positions: Sequence[int], image_size: int
) -> np.ndarray:
    """Returns images uint8 [len(positions), S, S, 3], in the order of positions."""
    images = {
        position: decoding.decode_and_resize(example["image_bytes"], image_size).numpy()
        for position, example in enumerate(records.dataset)
        if position in positions
    }
    return np.stack([images[position] for position in positions])


def _encode(image: np.ndarray) -> str:
    """Encodes an image [S, S, 3], range [0, 255], as a small JPEG in a data URI."""
    pixels = np.clip(np.round(np.asarray(image)), 0, 255).astype(np.uint8)
    small = Image.fromarray(pixels)
    small.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colours an image by a heat map float32 [S, S], range [0, 1]."""
    import matplotlib

    colours = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    return 0.45 * image + 0.55 * colours


def _compute_heats(classifier: Classifier, images: tf.Tensor) -> np.ndarray:
    """Computes where the classifier looks in images uint8 [N, S, S, 3].

    Returns:
      float32 [N, S, S], range [0, 1].
    """
    features = compute_features(classifier, images)
    heat = compute_heat(classifier, features)[..., tf.newaxis]
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0]
    peak = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(heat, peak).numpy()
