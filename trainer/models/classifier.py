"""Backbone and head, and what of them trains."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from trainer.models import backbones


@dataclasses.dataclass(frozen=True)
class Classifier:
    """An image classifier in its parts, which share all variables with `model`.

    normalise: float32 [B, S, S, 3], range [0, 255] -> what the backbone was trained on.
    backbone: -> features [B, H, W, C].
    head: -> float32 logits [B, K].
    model: the three in a row; never augments.
    """

    normalise: Callable
    backbone: keras.Model
    head: keras.Model
    model: keras.Model


@dataclasses.dataclass(frozen=True)
class FrozenPrefix:
    """The last tensor through which everything that trains sees the image.

    What lies before it is the same in every epoch and need be computed but once.

    name: of the backbone's layer whose output it is, or of the head's pooling where no
      layer of the backbone trains.
    prefix: normalised images -> that tensor.
    suffix: that tensor -> the backbone's output; None where it is the pooled one.
    """

    name: str
    prefix: keras.Model
    suffix: keras.Model | None


def build_classifier(
    backbone: keras.Model,
    backbone_name: str,
    *,
    num_classes: int,
    pooling: str,
    head_units: int,
    dropout: float,
) -> Classifier:
    """Puts normalisation before and a new head behind a backbone.

    The head is pooling, Dense(head_units, relu), dropout, Dense(num_classes).
    """
    _, normalise = backbones.find_backbone(backbone_name)
    features = keras.Input(backbone.output.shape[1:], name="features")
    pool = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }[pooling]
    x = pool(name=f"{pooling}_pooling")(features)
    x = keras.layers.Dense(head_units, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # float32 under every policy: half-precision logits lose the small probabilities.
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return assemble(normalise, backbone, keras.Model(features, logits, name="head"))


def assemble(
    normalise: Callable, backbone: keras.Model, head: keras.Model
) -> Classifier:
    """Puts the parts of a Classifier in a row."""
    images = keras.Input(backbone.input.shape[1:], dtype="float32", name="image")
    model = keras.Model(images, head(backbone(normalise(images))), name="classifier")
    return Classifier(normalise=normalise, backbone=backbone, head=head, model=model)


def count_parameters(variables: list) -> int:
    """Number of scalars in a list of variables."""
    return sum(math.prod(variable.shape) for variable in variables)


def compute_logits(
    classifier: Classifier,
    images: tf.Tensor,
    *,
    frozen_prefix: FrozenPrefix | None = None,
    dropout_seed: tf.Tensor | None = None,
    train_backbone: bool = False,
) -> tf.Tensor:
    """float32 [B, S, S, 3], range [0, 255] -> float32 logits [B, K].

    frozen_prefix: where `images` are what its prefix made of the images instead.
    dropout_seed: int32 [2]; apply the head's dropout, with randomness that follows from
      it: a layer's own would be the same on every replica.
    train_backbone: those of the backbone's layers that are not frozen behave as in
      training: batch norm uses the batch's statistics and moves its own towards them.
      A frozen batch norm never does.
    """
    layers = classifier.head.layers[1:]  # after its input
    if frozen_prefix is None:
        x = classifier.backbone(classifier.normalise(images), training=train_backbone)
    elif frozen_prefix.suffix is not None:
        x = frozen_prefix.suffix(images, training=train_backbone)
    else:
        x, layers = images, layers[1:]  # after the pooling
    for layer in layers:
        if not isinstance(layer, keras.layers.Dropout):
            x = layer(x)
        elif dropout_seed is not None and layer.rate > 0:
            x = tf.nn.experimental.stateless_dropout(x, layer.rate, dropout_seed)
    return x


def compute_embedding(classifier: Classifier, images: tf.Tensor) -> tf.Tensor:
    """float32 [B, S, S, 3], range [0, 255] -> the pooled features [B, C]."""
    features = classifier.backbone(classifier.normalise(images), training=False)
    return classifier.head.layers[1](features)


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Builds the models inside under this Keras dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
