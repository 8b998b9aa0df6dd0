"""Backbone and head, and what of them trains."""

import contextlib
import dataclasses
import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping

import h5py
import keras
import tensorflow as tf


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
class Frontier:
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


def find_backbone(name: str) -> tuple[Callable, Callable]:
    """Name in keras.applications -> (constructor, preprocess_input).

    Raises:
      ValueError: no such classification model.
    """
    constructors = {
        attribute: value
        for attribute, value in vars(keras.applications).items()
        if inspect.isfunction(value)
        and "include_top" in inspect.signature(value).parameters
    }
    if name not in constructors:
        raise ValueError(
            "--backbone must be a classification model of keras.applications. "
            f"Received: --backbone={name}; there are {', '.join(sorted(constructors))}."
        )
    # "keras.src.applications.mobilenet_v3" -> keras.applications.mobilenet_v3
    module = constructors[name].__module__.rpartition(".")[2]
    return constructors[name], getattr(keras.applications, module).preprocess_input


def build_backbone(
    name: str, arguments: Mapping[str, object], *, image_size: int
) -> keras.Model:
    """Builds a backbone without its classification layer, with random weights.

    Raises:
      ValueError: unknown backbone, or it does not take the arguments or the size.
    """
    constructor, _ = find_backbone(name)
    try:
        return constructor(
            weights=None,
            include_top=False,
            input_shape=(image_size, image_size, 3),
            **arguments,
        )
    except (TypeError, ValueError) as error:
        received = ",".join(f"{key}={value}" for key, value in arguments.items())
        raise ValueError(
            f"{name} cannot be built: {error} Received: --backbone={name} "
            f"--backbone_args={received} --image_size={image_size}"
        ) from error


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
    _, normalise = find_backbone(backbone_name)
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


def load_backbone_weights(
    backbone: keras.Model,
    name: str,
    arguments: Mapping[str, object],
    weights: str,
    *,
    random_if_offline: bool,
) -> str:
    """Loads --weights into a backbone; returns where they came from.

    random_if_offline: with weights="auto", keep the random ones and warn if ImageNet's
    cannot be downloaded.

    Raises:
      ValueError: the download failed, or the file does not fit the backbone.
    """
    if weights == "random":
        return "random"
    if weights not in ("auto", "imagenet"):
        load_weights(backbone, weights)
        return weights
    constructor, _ = find_backbone(name)
    try:
        pretrained = constructor(
            weights="imagenet",
            include_top=False,
            input_shape=backbone.input.shape[1:],
            **arguments,
        )
    except Exception as error:  # Keras raises a bare Exception when a download fails
        if weights == "auto" and random_if_offline:
            print(
                f"WARNING: ImageNet weights for {name} could not be downloaded "
                f"({error}). Continuing from RANDOM weights: good enough to see the "
                "whole job run, not to classify well."
            )
            return "random"
        raise ValueError(
            f"ImageNet weights for {name} could not be loaded: {error} Received: "
            f"--weights={weights}. Download the '..._notop.h5' file where there is a "
            "network and give its path with --weights=PATH, or train from scratch with "
            "--weights=random."
        ) from error
    backbone.set_weights(pretrained.get_weights())
    return "imagenet"


def load_weights(model: keras.Model, path: str) -> None:
    """Loads a file of exactly this model's weights.

    Raises:
      ValueError: no such file, not a weights file, or of another architecture.
    """
    problem = None
    if not os.path.isfile(path):
        problem = "there is no such file"
    else:
        try:
            with warnings.catch_warnings():
                # Keras warns of containers it could not match by a second name, though
                # it has loaded them by the first.
                warnings.filterwarnings("ignore", message="Skipping nested container")
                model.load_weights(path)
            stored, expected = _count_arrays(path), len(_weights(model))
            if stored is not None and stored != expected:
                problem = f"it holds {stored} arrays, {model.name} has {expected}"
        except (ValueError, OSError) as error:
            problem = str(error).split("\n")[0]
    if problem is not None:
        raise ValueError(
            f"The weights do not fit {model.name}: {problem}. Received: {path}; a file "
            "fits that comes from the same backbone with the same --backbone_args, "
            "without its classification layer."
        )


def _weights(model: keras.Model) -> list:
    return [v for v in model.weights if "seed_generator" not in v.path]


def _count_arrays(path: str) -> int | None:
    """Weight arrays in a Keras 3 file; None for a legacy one, which Keras checks."""
    if not path.endswith(".weights.h5"):
        return None
    names = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                names.append(name)
                if isinstance(item, h5py.Dataset) and "seed_generator" not in name
                else None
            )
        )
    return len(names)


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


def count_parameters(variables: list) -> int:
    """Number of scalars in a list of variables."""
    return sum(math.prod(variable.shape) for variable in variables)


def compute_logits(
    classifier: Classifier,
    images: tf.Tensor,
    *,
    frontier: Frontier | None = None,
    dropout_seed: tf.Tensor | None = None,
    train_backbone: bool = False,
) -> tf.Tensor:
    """float32 [B, S, S, 3], range [0, 255] -> float32 logits [B, K].

    frontier: where `images` are what its prefix made of the images instead.
    dropout_seed: int32 [2]; apply the head's dropout, with randomness that follows from
      it: a layer's own would be the same on every replica.
    train_backbone: those of the backbone's layers that are not frozen behave as in
      training: batch norm uses the batch's statistics and moves its own towards them.
      A frozen batch norm never does.
    """
    layers = classifier.head.layers[1:]  # after its input
    if frontier is None:
        x = classifier.backbone(classifier.normalise(images), training=train_backbone)
    elif frontier.suffix is not None:
        x = frontier.suffix(images, training=train_backbone)
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
