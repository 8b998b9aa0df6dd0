"""Freezes layers of a backbone, and sets the mode of its batch norms."""

import keras
import tensorflow as tf

from trainer.config.regimes import Freeze
from trainer.models import boundary
from trainer.models.classifier import Classifier


def resolve_freeze(backbone: keras.Model, frozen: Freeze | int | str) -> int:
    """Returns the number of frozen layers of a backbone, counted from the input.

    frozen: see config.regimes.Regime. Freeze.AUTOMATIC follows from the
      layers; see boundary.choose_boundary.

    Raises:
      ValueError: the backbone has fewer layers, or no layer of that name.
    """
    names = [layer.name for layer in backbone.layers]
    if frozen is Freeze.ALL:
        return len(names)
    if frozen is Freeze.AUTOMATIC:
        return boundary.choose_boundary(backbone)
    if isinstance(frozen, str):
        if frozen not in names:
            raise ValueError(
                f"--freeze_until must name a layer of {backbone.name}, such as "
                f"{names[len(names) // 2]}. Received: --freeze_until={frozen}"
            )
        return names.index(frozen) + 1
    assert isinstance(frozen, int)
    if frozen > len(names):
        raise ValueError(
            f"--freeze_layers must be at most {len(names)}, the number of layers of "
            f"{backbone.name}. Received: --freeze_layers={frozen}"
        )
    return frozen


def freeze(backbone: keras.Model, num_layers: int) -> None:
    """Freezes the first num_layers layers of a backbone and lets the others train."""
    # Layer by layer: on the TensorFlow backend, `backbone.trainable = True` has no
    # effect if the model's own attribute is True already, even if layers are frozen.
    for index, layer in enumerate(backbone.layers):
        layer.trainable = index >= num_layers


def list_unfrozen(classifier: Classifier) -> list[keras.Variable]:
    """Returns the weights of all unfrozen layers, with the statistics of batch norm."""
    return [
        weight
        for layer in (*classifier.backbone.layers, *classifier.head.layers)
        if layer.trainable
        for weight in layer.weights
    ]


def synchronise_batch_norm(backbone: keras.Model, synchronised: bool) -> None:
    """Sets if batch norm in training uses the statistics of all replicas together."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronised


def calibrate_batch_norm(classifier: Classifier, images: tf.Tensor) -> None:
    """Sets the batch norm statistics of the backbone to those of some images.

    Random weights need it: with the initial statistics (mean 0, variance 1), a frozen
    batch norm does not normalise, and activations grow with every block: by a factor
    of a thousand in ResNet50.

    Args:
      classifier: the statistics of its backbone are replaced.
      images: uint8 or float32 [B, S, S, 3], range [0, 255].
    """
    norms = [
        layer
        for layer in classifier.backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    classifier.backbone(classifier.normalise(images), training=True)
    for norm, momentum in zip(norms, momentums, strict=True):
        norm.momentum = momentum
