"""Where the frozen part of a model ends: find_frontier()."""

import keras

from trainer.models.classifier import Classifier, FrozenPrefix


def find_frozen_prefix(classifier: Classifier) -> FrozenPrefix | None:
    """Splits a classifier whose layers are frozen as they shall be in training.

    Prefix and suffix share the classifier's layers and variables, and one after the
    other compute what the backbone computes, to the bit.

    Returns:
      None where a layer that trains sees the image itself.
    """
    backbone = classifier.backbone
    if not backbone.trainable_variables:
        pooling = classifier.head.layers[1]
        return FrozenPrefix(
            name=pooling.name,
            prefix=keras.Model(backbone.input, pooling(backbone.output)),
            suffix=None,
        )
    last = _last_dominator(backbone)
    if last is None:
        return None
    tensor = last._inbound_nodes[0].outputs[0]
    return FrozenPrefix(
        name=last.name,
        prefix=keras.Model(backbone.input, tensor),
        suffix=keras.Model(tensor, backbone.output),
    )


def _last_dominator(backbone: keras.Model) -> keras.Operation | None:
    """The last layer on every path from the image to what trains and to the end.

    A layer is dominated by itself and by what dominates all of its inputs (Allen and
    Cocke, 1972).
    """
    dominators = {}
    ordered = backbone.operations  # from the image on
    for operation in ordered:
        # The first is of the backbone; later ones are of models that share the layer.
        inputs = {
            tensor._keras_history.operation.name
            for tensor in operation._inbound_nodes[0].input_tensors
        }
        shared = [dominators[name] for name in inputs]
        before = set.intersection(*shared) if shared else set()
        dominators[operation.name] = before | {operation.name}
    trains = {
        operation.name
        for operation in ordered
        if getattr(operation, "trainable_variables", None)
    }
    needed = trains | {backbone.output._keras_history.operation.name}
    common = set.intersection(*(dominators[name] for name in needed)) - trains
    found = [operation for operation in ordered[1:] if operation.name in common]
    return found[-1] if found else None
