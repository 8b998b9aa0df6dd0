"""Replaces batch norm by faster arithmetic while it trains.

With stored statistics a batch norm multiplies each channel by a number and adds
another. Multiplying the kernel of the convolution before it instead saves passes over
every activation, forwards and backwards (Jacob et al., 2018, section 3.2). With the
statistics of the batch, TensorFlow's fused kernel does in one operation what Keras does
in ten.

The gradients are the same but for rounding. Unlike in batch_norm_folding.py, the fused
model shares its variables with the layers.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from trainer.models.batch_norm_folding import find_pairs
from trainer.models.classifier import Classifier, FrozenPrefix, assemble

# TensorFlow's kernel takes a smaller one for this one on GPUs.
_LEAST_EPSILON = 1.001e-5


def fuse_classifier(
    classifier: Classifier,
    frozen_prefix: FrozenPrefix | None,
    *,
    train_batch_norm: bool,
) -> tuple[Classifier, FrozenPrefix | None]:
    """Fuses the batch norms behind a frozen prefix, or of the whole backbone.

    Args:
      frozen_prefix: of the classifier; None if it has none.
      train_batch_norm: the batch norms use the statistics of the batch.

    Returns:
      Both, for training alone; they share all variables with the arguments.
    """
    fuse = fuse_batch_statistics if train_batch_norm else fuse_stored_statistics
    if frozen_prefix is None:
        backbone = fuse(classifier.backbone)
        return assemble(classifier.normalise, backbone, classifier.head), None
    if frozen_prefix.suffix is None:
        return classifier, frozen_prefix
    suffix = fuse(frozen_prefix.suffix)
    return classifier, dataclasses.replace(frozen_prefix, suffix=suffix)


def fuse_stored_statistics(model: keras.Model) -> keras.Model:
    """Returns a functional model whose convolutions do the work of its batch norms.

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

    return _replace(model, replace)


def fuse_batch_statistics(model: keras.Model) -> keras.Model:
    """Returns a functional model whose batch norms are TensorFlow's fused kernel.

    Those remain that are frozen or share their statistics over replicas.
    """
    return _replace(
        model, lambda layer: _FusedNorm(layer) if _has_kernel(layer) else layer
    )


def _replace(
    model: keras.Model, replace: Callable[[keras.Operation], keras.Operation]
) -> keras.Model:
    """Returns a functional model with replace(layer) in place of each layer."""
    replaced: set[str] = set()

    def clone(layer):
        new = replace(layer)
        if new is not layer:
            replaced.add(layer.name)
        return new

    def call(layer, *inputs, **options):
        # A batch norm was called with options, such as a mask, that others refuse.
        return layer(*inputs, **({} if layer.name in replaced else options))

    return keras.models.clone_model(model, clone_function=clone, call_function=call)


def _can_fuse(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)


def _has_kernel(layer: keras.Operation) -> bool:
    """Returns True for a batch norm that TensorFlow's fused kernel can compute."""
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not layer.synchronized
        and len(layer.output.shape) == 4
        and layer.axis in (-1, 3)
        and layer.epsilon >= _LEAST_EPSILON
    )


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


class _FusedNorm(keras.layers.Layer):
    """A batch norm that uses, and keeps a mean of, the statistics of the batch."""

    def __init__(self, norm: keras.layers.BatchNormalization):
        super().__init__(name=norm.name, dtype="float32", autocast=False)
        self._norm = norm

    def call(self, images: tf.Tensor) -> tf.Tensor:
        norm = self._norm
        scale, offset = tf.ones(images.shape[-1]), tf.zeros(images.shape[-1])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(images, norm.compute_dtype),
            scale=tf.convert_to_tensor(norm.gamma) if norm.scale else scale,
            offset=tf.convert_to_tensor(norm.beta) if norm.center else offset,
            mean=[],
            variance=[],
            epsilon=norm.epsilon,
            is_training=True,
        )
        # The kernel estimates the variance of more images; Keras keeps the batch's own.
        count = tf.cast(tf.reduce_prod(tf.shape(images)[:-1]), tf.float32)
        variance *= (count - 1) / count
        for kept, found in (
            (norm.moving_mean, mean),
            (norm.moving_variance, variance),
        ):
            kept.assign(kept * norm.momentum + found * (1 - norm.momentum))
        return outputs
