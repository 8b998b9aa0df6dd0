"""Builds a classifier of a backbone and a head, and computes its outputs."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from trainer.config.head_config import HeadConfig
from trainer.models import backbones


@dataclasses.dataclass(frozen=True)
class Classifier:
    """An image classifier and its parts, which share all variables with `model`.

    normalise: images uint8 or float32 [B, S, S, 3], range [0, 255] -> normalised
      images, in the range that the backbone was trained on.
    backbone: normalised images -> features [B, H, W, C].
    head: features -> logits float32 [B, K].
    model: normalise, backbone and head in a row; it never augments.
    """

    normalise: Callable
    backbone: keras.Model
    head: keras.Model
    model: keras.Model


@dataclasses.dataclass(frozen=True)
class FrozenPrefix:
    """The frozen first part of a classifier, whose outputs can be computed once.

    It ends at the last tensor through which all layers that train read the image.

    name: name of the backbone's layer that computes this tensor; name of the head's
      pooling layer if no layer of the backbone trains.
    prefix: normalised images -> this tensor.
    suffix: this tensor -> the output of the backbone; None if the tensor is the pooled
      output of the backbone.
    """

    name: str
    prefix: keras.Model
    suffix: keras.Model | None


def build_classifier(
    backbone: keras.Model,
    backbone_name: str,
    *,
    num_classes: int,
    head: HeadConfig,
) -> Classifier:
    """Builds a classifier of a backbone: normalisation before it, a new head after it.

    backbone_name: name of the backbone in keras.applications.
    """
    _, normalise_floats = backbones.find_backbone(backbone_name)

    def normalise(images):
        is_uint8 = images.dtype == "uint8"
        return normalise_floats(tf.cast(images, tf.float32) if is_uint8 else images)

    features = keras.Input(backbone.output.shape[1:], name="features")
    pool = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }[head.pooling]
    x = pool(name=f"{head.pooling}_pooling")(features)
    if head.normalized:  # In float32: the squares of half precision overflow.
        x = keras.layers.UnitNormalization(dtype="float32", name="normalized")(x)
        x = keras.layers.Rescaling(
            math.sqrt(x.shape[-1]), dtype="float32", name="rescaled"
        )(x)
    if head.units:
        x = keras.layers.Dense(head.units, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(head.dropout, name="dropout")(x)
    # float32 under every policy: half precision rounds small probabilities to 0.
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return assemble(normalise, backbone, keras.Model(features, logits, name="head"))


def assemble(
    normalise: Callable, backbone: keras.Model, head: keras.Model
) -> Classifier:
    """Connects normalisation, backbone and head to a Classifier."""
    images = keras.Input(backbone.input.shape[1:], dtype="float32", name="image")
    model = keras.Model(images, head(backbone(normalise(images))), name="classifier")
    return Classifier(normalise=normalise, backbone=backbone, head=head, model=model)


def count_parameters(variables: Sequence[keras.Variable]) -> int:
    """Returns the number of scalars in some variables."""
    return sum(math.prod(variable.shape) for variable in variables)


def compute_logits(
    classifier: Classifier,
    images: tf.Tensor,
    *,
    frozen_prefix: FrozenPrefix | None = None,
    dropout_seed: tf.Tensor | None = None,
    train_backbone: bool = False,
) -> tf.Tensor:
    """Computes the logits of images, float32 [B, K].

    Args:
      images: float32 [B, S, S, 3], range [0, 255]; with frozen_prefix the outputs of
        its prefix.
      frozen_prefix: the frozen prefix that computed `images`; None for images.
      dropout_seed: see compute_head.
      train_backbone: see compute_embedding.
    """
    embedding = compute_embedding(
        classifier, images, frozen_prefix=frozen_prefix, train_backbone=train_backbone
    )
    return compute_head(classifier, embedding, dropout_seed=dropout_seed)


def compute_embedding(
    classifier: Classifier,
    images: tf.Tensor,
    *,
    frozen_prefix: FrozenPrefix | None = None,
    train_backbone: bool = False,
) -> tf.Tensor:
    """Computes the pooled features of images, [B, D].

    Args:
      images, frozen_prefix: see compute_logits.
      train_backbone: unfrozen layers of the backbone behave as in training: batch norm
        uses the statistics of the batch and moves its own towards them. A frozen batch
        norm never does.
    """
    if frozen_prefix is not None and frozen_prefix.suffix is None:
        return images  # The prefix includes the pooling.
    features = compute_features(
        classifier, images, frozen_prefix=frozen_prefix, train_backbone=train_backbone
    )
    return pool_features(classifier, features)


def compute_features(
    classifier: Classifier,
    images: tf.Tensor,
    *,
    frozen_prefix: FrozenPrefix | None = None,
    train_backbone: bool = False,
) -> tf.Tensor:
    """Computes the output of the backbone, [B, H, W, C].

    Args:
      images: see compute_logits.
      frozen_prefix: has a suffix, so that its outputs are not pooled.
      train_backbone: see compute_embedding.
    """
    if frozen_prefix is None:
        images = classifier.normalise(images)
        return classifier.backbone(images, training=train_backbone)
    assert frozen_prefix.suffix is not None
    return frozen_prefix.suffix(images, training=train_backbone)


def pool_features(classifier: Classifier, features: tf.Tensor) -> tf.Tensor:
    """Pools the output of the backbone: [B, H, W, C] -> embeddings [B, C]."""
    return classifier.head.layers[1](features)


def compute_head(
    classifier: Classifier,
    embedding: tf.Tensor,
    *,
    dropout_seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the logits float32 [B, K] of pooled features [B, D].

    dropout_seed: int32 [2]; applies the dropout of the head with this seed. The
      layer's own seed would be the same on every replica. None: no dropout.
    """
    x = embedding
    for layer in classifier.head.layers[2:]:  # without the input and the pooling
        if not isinstance(layer, keras.layers.Dropout):
            x = layer(x)
        elif dropout_seed is not None and layer.rate > 0:
            x = tf.nn.experimental.stateless_dropout(x, layer.rate, dropout_seed)
    return x


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Sets the Keras dtype policy for the models that the block builds."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
