"""Finds and builds a backbone of keras.applications, and loads its weights."""

import difflib
import inspect
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping

import h5py
import keras

from trainer.embedded import EMBEDDED_WEIGHTS

_MAX_REASON = 200  # characters of an error of Keras, which can quote a value often


def find_backbone(name: str) -> tuple[Callable, Callable]:
    """Returns the constructor and preprocess_input of a model in keras.applications.

    Raises:
      ValueError: keras.applications has no classification model of that name.
    """
    constructors = {
        attribute: value
        for attribute, value in vars(keras.applications).items()
        if inspect.isfunction(value)
        and "include_top" in inspect.signature(value).parameters
    }
    if name not in constructors:
        alike = difflib.get_close_matches(name, constructors, n=5, cutoff=0)
        raise ValueError(
            "--backbone must be a classification model of keras.applications. "
            f"Received: --backbone={name}. The names most like it: {', '.join(alike)}."
        )
    # "keras.src.applications.mobilenet_v3" -> keras.applications.mobilenet_v3
    module = constructors[name].__module__.rpartition(".")[2]
    return constructors[name], getattr(keras.applications, module).preprocess_input


def build_backbone(
    name: str, arguments: Mapping[str, object], *, image_size: int
) -> keras.Model:
    """Builds a backbone without its classification layer, with random weights.

    Raises:
      ValueError: there is no such backbone, or it refuses the arguments or the size.
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
        reason = " ".join(str(error).split())[:_MAX_REASON].rstrip(".")
        raise ValueError(
            f"{name} cannot be built: {reason}. Check --backbone_args and "
            f"--image_size. Received: --backbone={name} --backbone_args={received} "
            f"--image_size={image_size}"
        ) from error


def load_backbone_weights(
    backbone: keras.Model,
    name: str,
    arguments: Mapping[str, object],
    weights: str,
) -> str:
    """Loads the weights that --weights names into a backbone.

    Args:
      backbone: its weights are replaced.
      name, arguments: as for build_backbone.
      weights: "imagenet", "auto" (the same), "embedded", "random" or the path of a
        file.

    Returns:
      "imagenet", "embedded", "random" or the path: where the weights came from.

    Raises:
      ValueError: the download failed, or the file does not fit the backbone.
    """
    if weights == "random":
        return "random"
    if weights not in ("auto", "imagenet"):
        path = EMBEDDED_WEIGHTS if weights == "embedded" else weights
        load_weights(backbone, path, received=f"--weights={weights}")
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
        raise ValueError(_explain_download(error, backbone, name, weights)) from error
    backbone.set_weights(pretrained.get_weights())
    return "imagenet"


def _explain_download(
    error: Exception, backbone: keras.Model, name: str, weights: str
) -> str:
    """Returns the message that ImageNet weights are missing, and what to do."""
    megabytes = sum(4 * math.prod(v.shape) for v in _weights(backbone)) / 1e6
    address = re.search(r"https?://\S+\.h5", str(error))
    file = address[0] if address else "the '..._notop.h5' file"
    # As Keras does; it has no public function for it.
    folder = os.path.join(os.environ.get("KERAS_HOME", "~/.keras"), "models")
    return (
        f"ImageNet weights for {name} could not be loaded: {error} Received: "
        f"--weights={weights}. Download {file} (about {megabytes:.0f} MB) on a machine "
        f"with a network and put it into {folder}, or give its path with "
        "--weights=FILE. For a dry run without a network, leave out --backbone and use "
        "--weights=embedded."
    )


def load_weights(model: keras.Model, path: str, *, received: str | None = None) -> None:
    """Loads a file that holds exactly the weights of a model.

    received: the flag that named the file, for the message of an error.

    Raises:
      ValueError: the file is missing, is no weights file, or has the weights of another
        architecture.
    """
    problem = None
    if not os.path.isfile(path):
        problem = "there is no such file"
    else:
        try:
            with warnings.catch_warnings():
                # Keras warns if it cannot match a container by a second name, although
                # it has already loaded the container by the first.
                warnings.filterwarnings("ignore", message="Skipping nested container")
                model.load_weights(path)
            num_stored, num_expected = _count_arrays(path), len(_weights(model))
            if num_stored is not None and num_stored != num_expected:
                problem = (
                    f"it holds {num_stored} arrays, {model.name} has {num_expected}"
                )
        except (ValueError, OSError) as error:
            problem = str(error).split("\n")[0]
    if problem is not None:
        raise ValueError(
            f"The weights do not fit {model.name}: {problem}. Received: "
            f"{received or path}; use a file of the same backbone with the same "
            "--backbone_args, without its classification layer."
        )


def _weights(model: keras.Model) -> list[keras.Variable]:
    return [v for v in model.weights if "seed_generator" not in v.path]


def _count_arrays(path: str) -> int | None:
    """Counts the arrays in a Keras 3 file; None for an older one: Keras checks it."""
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
