"""Random changes to training images, on the device batch: augmenters and mixers.

The only file that imports keras_cv. It must stay outside the model: a keras-cv layer
augments whether or not it is training, so inside the model it would also do so in
evaluation and in the exported graph.

Nothing here has state: every result is a function of its inputs and its seed, so a run
that continues repeats nothing and loses nothing, and a cached view can be made again.
"""

import dataclasses

MIXERS = ("none", "mixup", "cutmix")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How far each operation may go; 0 leaves it out.

    flip: mirror every second image, by chance, left to right.
    shear: a row is shifted by up to this many times its distance from the centre.
    zoom: each axis is scaled by its own factor in [1 - zoom, 1 + zoom].
    rotation_degrees: up to this, either way.
    translation: up to this share of the width and, by its own draw, of the height.
    contrast, saturation: a factor in [1 - x, 1 + x].
    brightness: up to this share of 255 is added or taken.
    hue: up to this share of a full turn, either way.
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
    "notebook": Preset(flip=True, shear=0.2, zoom=0.2),
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
PRESET_NAMES = tuple(PRESETS)
