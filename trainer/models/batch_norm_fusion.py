"""Fuses batch norm with stored statistics into the convolution before it, in training.

Such a batch norm multiplies each channel by a number and adds another. Multiplying the
kernel instead saves passes over every activation, forwards and backwards; the gradients
of kernel, scale and offset are the same but for rounding (Jacob et al., 2018, section
3.2). Unlike batch_norm_folding.py, the fused model shares its variables.
"""

import dataclasses

import keras
import tensorflow as tf

from trainer.models.batch_norm_folding import find_pairs
from trainer.models.classifier import Classifier, FrozenPrefix, assemble


def fuse_classifier(
    classifier: Classifier, frozen_prefix: FrozenPrefix | None
) -> tuple[Classifier, FrozenPrefix | None]:
    """Fuses the batch norms behind a frozen prefix, or of the whole backbone.

    Args:
      frozen_prefix: of the classifier; None if it has none.

    Returns:
      Both, for training with stored statistics; they share all variables.
    """
    if frozen_prefix is None:
        fused = fuse_batch_norm(classifier.backbone)
        return assemble(classifier.normalise, fused, classifier.head), None
    if frozen_prefix.suffix is None:
        return classifier, frozen_prefix
    suffix = fuse_batch_norm(frozen_prefix.suffix)
    return classifier, dataclasses.replace(frozen_prefix, suffix=suffix)


def fuse_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a functional model that shares the variables and has no batch norm left.

    Only a batch norm that alone reads a convolution is fused; the others remain.
    """
    fused = {
        norm: model.get_layer(convolution)
        for norm, convolution in find_pairs(model).items()
    }
    fused = {norm: layer for norm, layer in fused.items() if _can_fuse(layer)}
    norm_of = {layer.name: model.get_layer(norm) for norm, layer in fused.items()}

    def replace(layer):
        if layer.name in norm_of:
            return _FusedConvolution(layer, norm_of[layer.name])
        if layer.name in fused:
            return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy)
        return layer

    def call(layer, *inputs, **options):
        # A batch norm was called with options, such as a mask, that Identity refuses.
        return layer(*inputs, **({} if layer.name in fused else options))

    return keras.models.clone_model(model, clone_function=replace, call_function=call)


def _can_fuse(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)


class _FusedConvolution(keras.layers.Layer):
    """A convolution and the batch norm behind it, with the variables of both."""

    def __init__(
        self,
        convolution: keras.layers.Conv2D | keras.layers.DepthwiseConv2D,
        norm: keras.layers.BatchNormalization,
    ):
        # Keras casts nothing: the kernel is multiplied in float32 and rounded once.
        super().__init__(name=convolution.name, dtype="float32", autocast=False)
        self._convolution = convolution
        self._norm = norm

    def call(self, images: tf.Tensor) -> tf.Tensor:
        layer, norm = self._convolution, self._norm
        scale = tf.math.rsqrt(tf.convert_to_tensor(norm.moving_variance) + norm.epsilon)
        if norm.scale:
            scale *= tf.convert_to_tensor(norm.gamma)
        offset = -scale * tf.convert_to_tensor(norm.moving_mean)
        if layer.use_bias:
            offset += scale * tf.convert_to_tensor(layer.bias)
        if norm.center:
            offset += tf.convert_to_tensor(norm.beta)
        kernel = tf.convert_to_tensor(layer.kernel)
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        # [H, W, C, multiplier]; the output has C * multiplier channels.
        kernel *= tf.reshape(scale, kernel.shape[2:]) if is_depthwise else scale
        convolve = keras.ops.depthwise_conv if is_depthwise else keras.ops.conv
        outputs = convolve(
            tf.cast(images, layer.compute_dtype),
            tf.cast(kernel, layer.compute_dtype),
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        return tf.nn.bias_add(outputs, tf.cast(offset, outputs.dtype))
