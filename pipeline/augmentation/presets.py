"""Defines the presets of --augment and the names of --mix, without TensorFlow."""

import dataclasses

MIXERS = ("none", "mixup", "cutmix")


@dataclasses.dataclass(frozen=True)
class Preset:
    """The limits of each operation; 0 or False leaves it out.

    flip: mirror an image left to right with probability 1/2.
    shear: shift a row by up to this many times its distance from the centre.
    zoom: scale each axis by its own factor in [1 - zoom, 1 + zoom].
    rotation_degrees: largest rotation in either direction.
    translation: largest shift, as a fraction of the width and of the height; each axis
      draws its own.
    contrast, saturation: a factor in [1 - x, 1 + x].
    brightness: largest change in either direction, as a fraction of 255.
    hue: largest change in either direction, as a fraction of a full turn.
    """

    flip: bool = False
    shear: float = 0.0
    zoom: float = 0.0
    rotation_degrees: float = 0.0
    translation: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


PRESETS = {
    "basic": Preset(flip=True, shear=0.2, zoom=0.2),
    "light": Preset(
        flip=True,
        zoom=0.1,
        rotation_degrees=5,
        translation=0.05,
        contrast=0.1,
        brightness=0.05,
    ),
    "strong": Preset(
        flip=True,
        shear=0.2,
        zoom=0.3,
        rotation_degrees=20,
        translation=0.1,
        contrast=0.4,
        brightness=0.15,
        saturation=0.4,
        hue=0.04,
    ),
    "none": Preset(),
}

# Old names that still work.
ALIASES = {"notebook": "basic"}


def canonical_preset(name: str) -> str:
    """Returns the preset of an alias, and any other name as it is."""
    return ALIASES.get(name, name)
