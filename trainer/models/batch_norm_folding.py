"""Folds batch norms into the convolutions before them, for inference.

At inference, a batch norm multiplies each channel by a constant and adds another. The
convolution before it can do both (Jacob et al., 2018, section 3.2), which saves a pass
over every activation.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from trainer.models.classifier import FrozenPrefix


@dataclasses.dataclass(frozen=True)
class FoldedModel:
    """A model for inference, and what was done with its batch norms.

    folded: number of batch norms that were folded.
    kept: names of the batch norms that no convolution of their own precedes.
    """

    model: keras.Model
    folded: int
    kept: tuple[str, ...]


def fold_batch_norm(
    backbone: keras.Model, *, precision: str = "float32"
) -> FoldedModel:
    """Copies a functional model and folds its batch norms; see the module.

    Args:
      backbone: a model with float32 variables; the copy shares none of them.
      precision: "float32", "bfloat16" or "float16": precision of the arithmetic and of
        the convolutions' weights; or a Keras dtype policy, "mixed_bfloat16" or
        "mixed_float16": precision of the arithmetic only.

    Returns:
      A model that can be used only for inference.
    """
    convolution_of = find_pairs(backbone)
    folding = set(convolution_of.values())
    # Variables that are not kernels, such as statistics, need all bits of float32.
    whole = precision in ("bfloat16", "float16")
    policy_of_others = f"mixed_{precision}" if whole else precision

    def copy(layer):
        if layer.name in convolution_of:
            return keras.layers.Identity(name=layer.name, dtype=precision)
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Layer):  # An operation such as a + b.
            return type(layer).from_config(config)
        config["dtype"] = precision if _has_kernel(layer) else policy_of_others
        if layer.name in folding:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer, *inputs, **options):
        # A batch norm was called with options, such as a mask, that Identity refuses.
        return layer(*inputs, **({} if layer.name in convolution_of else options))

    copied = keras.models.clone_model(backbone, clone_function=copy, call_function=call)
    norm_of = {conv: norm for norm, conv in convolution_of.items()}
    for layer, new in zip(backbone.layers, copied.layers, strict=True):
        if layer.name in norm_of:
            _copy_folded(layer, backbone.get_layer(norm_of[layer.name]), new)
        elif layer.name not in convolution_of:
            _copy_weights(layer, new)
    return FoldedModel(
        model=copied,
        folded=len(convolution_of),
        kept=tuple(
            layer.name
            for layer in backbone.layers
            if isinstance(layer, keras.layers.BatchNormalization)
            and layer.name not in convolution_of
        ),
    )


def find_pairs(backbone: keras.Model) -> dict[str, str]:
    """Returns batch norm -> the convolution whose output only this batch norm reads."""
    layers = {layer.name for layer in backbone.layers}
    readers: dict[str, set[str]] = {}
    for layer in backbone.layers:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                history = tensor._keras_history
                readers.setdefault(history.operation.name, set()).add(layer.name)
    outputs = {tensor._keras_history.operation.name for tensor in backbone.outputs}
    pairs = {}
    for norm in backbone.layers:
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        before = norm._inbound_nodes[0].input_tensors[0]._keras_history.operation
        if (
            before.name in layers
            and _has_kernel(before)
            and keras.activations.serialize(before.activation) == "linear"
            and readers[before.name] == {norm.name}
            and before.name not in outputs
            and norm.axis in (-1, 3)
        ):
            pairs[norm.name] = before.name
    return pairs


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return isinstance(
        layer,
        keras.layers.Conv2D
        | keras.layers.DepthwiseConv2D
        | keras.layers.SeparableConv2D
        | keras.layers.Dense,
    )


def build_prefix(
    frozen_prefixes: Sequence[FrozenPrefix], *, folded: bool, precision: str
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """Builds the function that computes the outputs of several frozen prefixes at once.

    Args:
      frozen_prefixes: frozen prefixes of one classifier.
      folded: compute with a copy of the layers, with batch norm in the convolutions;
        otherwise with the layers of the classifier.
      precision: the Keras dtype policy that the classifier was built under.

    Returns:
      run(normalised images) -> the output of each frozen prefix.
    """
    prefix = keras.Model(
        frozen_prefixes[0].prefix.input,
        [frozen_prefix.prefix.output for frozen_prefix in frozen_prefixes],
    )
    if folded:
        # Weights stay in float32: collectives that copy them do not support bfloat16.
        prefix = fold_batch_norm(prefix, precision=precision).model

    def run(images):
        outputs = prefix(images, training=False)
        return list(outputs) if isinstance(outputs, list | tuple) else [outputs]

    return run


def _copy_folded(
    layer: keras.layers.Layer,
    norm: keras.layers.BatchNormalization,
    new: keras.layers.Layer,
) -> None:
    variance = norm.moving_variance.numpy().astype(np.float64)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    shift = norm.beta.numpy() if norm.center else 0.0
    bias = layer.bias.numpy() if layer.use_bias else 0.0
    new.bias.assign(shift + (bias - norm.moving_mean.numpy()) * scale)
    if isinstance(layer, keras.layers.SeparableConv2D):
        new.depthwise_kernel.assign(layer.depthwise_kernel)
        new.pointwise_kernel.assign(layer.pointwise_kernel.numpy() * scale)
    elif isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = layer.kernel.numpy()  # [H, W, C, multiplier]; the output has C * m
        new.kernel.assign(kernel * scale.reshape(kernel.shape[2:]))
    else:
        new.kernel.assign(layer.kernel.numpy() * scale)


def _copy_weights(layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
    if isinstance(layer, keras.Model):  # Layers of ConvNeXt can be models.
        new.set_weights(layer.get_weights())
    elif isinstance(layer, keras.layers.Layer) and layer.weights:
        store: dict[str, np.ndarray] = {}
        layer.save_own_variables(store)
        new.load_own_variables(store)
