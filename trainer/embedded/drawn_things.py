"""Draws the pictures that the embedded weights are trained on.

They show many kinds of things in the scenes of the source `sample`, and none of its
five flowers. All kinds share their colours, so that only shapes distinguish them.
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from pipeline.sources import drawn_scene
from trainer.embedded import drawn_objects as objects
from trainer.embedded import drawn_plants as plants
from trainer.embedded import drawn_shapes as shapes

_kind = functools.partial

KINDS: Mapping[str, Callable[[np.random.Generator], drawn_scene.Painter]] = {
    "poppy": _kind(plants.open_flower, petals=4, width=0.55, point=0.7, disc=0.2),
    "buttercup": _kind(plants.open_flower, petals=5, width=0.42, point=0.7),
    "periwinkle": _kind(plants.open_flower, petals=5, width=0.2, point=0.5, disc=0.06),
    "lily": _kind(plants.open_flower, petals=6, width=0.2, point=1.2, disc=0),
    "anemone": _kind(plants.open_flower, petals=8, width=0.3, point=0.9, disc=0.25),
    "clematis": _kind(plants.open_flower, petals=7, width=0.25, point=1.3, disc=0.15),
    "dahlia": _kind(
        plants.open_flower,
        petals=14,
        width=0.16,
        rings=(1.0, 0.82, 0.64, 0.46, 0.3),
        disc=0,
    ),
    "water lily": _kind(
        plants.open_flower, petals=9, width=0.2, point=1.4, rings=(1.0, 0.75, 0.5)
    ),
    "cornflower": _kind(
        plants.open_flower, petals=10, width=0.14, point=0.5, rings=(1.0, 0.55), disc=0
    ),
    "coneflower": _kind(plants.open_flower, petals=11, width=0.11, disc=0.4),
    "bellflower": _kind(plants.bell, bells=1),
    "lily of the valley": _kind(plants.bell, bells=5),
    "lavender": plants.spike,
    "hydrangea": plants.ball,
    "oval leaf": _kind(plants.leaf, lobes=1, depth=0),
    "clover leaf": _kind(plants.leaf, lobes=3, depth=0.8),
    "maple leaf": _kind(plants.leaf, lobes=5, depth=0.6),
    "chestnut leaf": _kind(plants.leaf, lobes=7, depth=0.85),
    "fern": plants.fern,
    "round tree": plants.round_tree,
    "pine": plants.pine,
    "bare tree": plants.bare_tree,
    "cactus": plants.cactus,
    "triangle": _kind(shapes.polygon, sides=3),
    "square": _kind(shapes.polygon, sides=4),
    "hexagon": _kind(shapes.polygon, sides=6),
    "star of four": _kind(shapes.star, points=4, inner=0.4),
    "star of five": _kind(shapes.star, points=5, inner=0.4),
    "star of nine": _kind(shapes.star, points=9, inner=0.6),
    "gear": _kind(shapes.star, points=16, inner=0.8),
    "sea urchin": _kind(shapes.star, points=30, inner=0.25),
    "ring": _kind(shapes.rings, count=1),
    "target": _kind(shapes.rings, count=4),
    "spiral": shapes.spiral,
    "crescent": shapes.crescent,
    "heart": shapes.heart,
    "cross": shapes.cross,
    "stripes": _kind(shapes.patterned, kind="stripes"),
    "checks": _kind(shapes.patterned, kind="checks"),
    "dots": _kind(shapes.patterned, kind="dots"),
    "waves": _kind(shapes.patterned, kind="waves"),
    "rays": _kind(shapes.patterned, kind="rays"),
    "noise": _kind(shapes.patterned, kind="noise"),
    "apple": _kind(objects.fruit, count=1),
    "cherries": _kind(objects.fruit, count=2),
    "grapes": _kind(objects.fruit, count=15),
    "pumpkin": objects.pumpkin,
    "mushroom": objects.mushroom,
    "butterfly": objects.butterfly,
    "beetle": objects.beetle,
    "fish": objects.fish,
    "caterpillar": objects.caterpillar,
}


def draw_thing(kind: str, index: int, *, seed: int) -> Image.Image:
    """Returns one drawn RGB image with sides of 180 to 320 pixels.

    Raises:
      KeyError: unknown kind.
    """
    rng = np.random.default_rng([seed, list(KINDS).index(kind), index])
    return drawn_scene.draw_scene(rng, KINDS[kind])
