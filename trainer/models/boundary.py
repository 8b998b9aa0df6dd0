"""Chooses how many layers of a backbone to freeze where --freeze_layers is not set."""

import dataclasses
import math

import keras

# The notebook that this project replaces froze 140 of ResNet50's 175 layers.
_SHARE = 140 / 175
# The boundary may be this share of the layers away from _SHARE.
_TOLERANCE = 0.05

_ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU)


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A place between two operations of a backbone.

    num_layers: number of layers before the cut.
    num_tensors: number of tensors that are computed before and read after it.
    num_values: numbers in these tensors, for one image.
    """

    num_layers: int
    num_tensors: int
    num_values: int


def choose_boundary(backbone: keras.Model) -> int:
    """Returns the number of layers to freeze: about 0.8 of them, to the end of a block.

    The end of a block is a place in the network that few tensors cross: one where there
    are shortcuts around a block only. Of such places the ones with small tensors are
    preferred, since the features there are precomputed and stored. Inside an inverted
    residual block, for example, the features have up to six times the channels.
    """
    num_layers = len(backbone.layers)
    target, tolerance = _SHARE * num_layers, _TOLERANCE * num_layers
    cuts = [
        cut for cut in _list_cuts(backbone) if abs(cut.num_layers - target) <= tolerance
    ]
    fewest_tensors = min((cut.num_tensors for cut in cuts), default=0)
    cuts = [cut for cut in cuts if cut.num_tensors == fewest_tensors]
    fewest_values = min((cut.num_values for cut in cuts), default=0)
    cuts = [cut for cut in cuts if cut.num_values <= 2 * fewest_values]
    return min(
        (cut.num_layers for cut in cuts),
        key=lambda count: (abs(count - target), count),
        default=round(target),
    )


def _list_cuts(backbone: keras.Model) -> list[_Cut]:
    """Lists the places that part no convolution from its batch norm or activation."""
    operations = backbone.operations  # in the order of computation
    readers: dict[str, list[int]] = {operation.name: [] for operation in operations}
    for index, operation in enumerate(operations):
        # The first node belongs to this backbone, later ones to models that share it.
        for tensor in operation._inbound_nodes[0].input_tensors:
            readers[tensor._keras_history.operation.name].append(index)
    cuts = []
    num_layers = 0
    for index, operation in enumerate(operations[:-1]):
        num_layers += isinstance(operation, keras.layers.Layer)
        followers = [operations[reader] for reader in readers[operation.name]]
        if len(followers) == 1 and _belong_together(operation, followers[0]):
            continue
        if _ends_in_depthwise(operation):
            continue
        crossing = [
            before._inbound_nodes[0].outputs[0]
            for before in operations[: index + 1]
            if max(readers[before.name], default=-1) > index
        ]
        num_values = sum(math.prod(tensor.shape[1:]) for tensor in crossing)
        cuts.append(_Cut(num_layers, len(crossing), num_values))
    return cuts


def _ends_in_depthwise(operation: keras.Operation) -> bool:
    """Returns True after a depthwise convolution, its batch norm and its activation.

    That is the middle of a separable block (Howard et al., 2017): the convolution that
    mixes the channels follows.
    """
    while isinstance(operation, (keras.layers.BatchNormalization, *_ACTIVATIONS)):
        (tensor,) = operation._inbound_nodes[0].input_tensors
        operation = tensor._keras_history.operation
    return isinstance(operation, keras.layers.DepthwiseConv2D)


def _belong_together(first: keras.Operation, second: keras.Operation) -> bool:
    """Returns True for a layer and its activation, and a kernel and its batch norm."""
    if isinstance(second, keras.layers.BatchNormalization):
        return bool(getattr(first, "variables", None))  # whether they train or not
    return isinstance(second, _ACTIVATIONS)
