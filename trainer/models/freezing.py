"""Backbone and head, and what of them trains."""

import keras
import tensorflow as tf

from trainer.models.classifier import Classifier


def resolve_freeze(backbone: keras.Model, frozen: int | str | None) -> int:
    """How many of a backbone's layers stay frozen, counted from the input.

    frozen: see config.Regime.

    Raises:
      ValueError: more layers than there are, or no layer of that name.
    """
    names = [layer.name for layer in backbone.layers]
    if frozen is None:
        return len(names)
    if isinstance(frozen, str):
        if frozen not in names:
            raise ValueError(
                f"--freeze_until must name a layer of {backbone.name}, such as "
                f"{names[len(names) // 2]}. Received: --freeze_until={frozen}"
            )
        return names.index(frozen) + 1
    if frozen > len(names):
        raise ValueError(
            f"--freeze_layers must be at most {len(names)}, the layers of "
            f"{backbone.name}. Received: --freeze_layers={frozen}"
        )
    return frozen


def freeze(backbone: keras.Model, num_layers: int) -> None:
    """Freezes the first num_layers layers of a backbone and lets the others train."""
    # Layer by layer: on the TensorFlow backend `backbone.trainable = True` does nothing
    # where the model's own attribute is True already, whatever its layers' are.
    for index, layer in enumerate(backbone.layers):
        layer.trainable = index >= num_layers


def list_unfrozen(classifier: Classifier) -> list[keras.Variable]:
    """The weights of the layers that are not frozen, batch norm statistics included."""
    return [
        weight
        for layer in (*classifier.backbone.layers, *classifier.head.layers)
        if layer.trainable
        for weight in layer.weights
    ]


def synchronise_batch_norm(backbone: keras.Model, synchronised: bool) -> None:
    """Whether batch norm that trains takes its statistics over all replicas."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronised


def calibrate_batch_norm(classifier: Classifier, images: tf.Tensor) -> None:
    """Sets the backbone's batch norm statistics to those of some images.

    Random weights need it: with the statistics they come with (mean 0, variance 1), a
    frozen batch norm normalises nothing and activations grow with every block, a
    thousandfold in ResNet50.

    Args:
      classifier: its backbone's statistics are replaced.
      images: float32 [B, S, S, 3], range [0, 255].
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
