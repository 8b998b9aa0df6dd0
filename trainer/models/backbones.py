"""Backbone and head, and what of them trains."""

import inspect
import os
import warnings
from collections.abc import Callable, Mapping

import h5py
import keras


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
