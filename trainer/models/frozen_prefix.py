"""Finds the frozen prefix of a classifier: the part whose output never changes."""

import keras

from trainer.models.classifier import Classifier, FrozenPrefix


def find_frozen_prefix(classifier: Classifier) -> FrozenPrefix | None:
    """Splits a classifier into a frozen prefix and a suffix.

    Prefix and suffix share the layers and variables of the classifier. Together they
    compute the output of the backbone, bit for bit.

    Args:
      classifier: its layers are frozen as in training.

    Returns:
      The frozen prefix; None if a layer that trains reads the image itself.
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
    """Returns the last operation on all paths from the image to the layers that train.

    An operation is dominated by itself and by the operations that dominate all of its
    inputs (Allen and Cocke, 1972). None: only the image is on all paths.
    """
    dominators: dict[str, set[str]] = {}
    ordered = backbone.operations  # in the order of computation
    for operation in ordered:
        # The first node belongs to this backbone, later ones to models that share it.
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
    shared_path = [operation for operation in ordered[1:] if operation.name in common]
    return shared_path[-1] if shared_path else None
