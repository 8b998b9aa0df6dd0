"""Draws fruit, mushrooms and animals."""

import math

import numpy as np

from pipeline.sources import drawn_petals
from pipeline.sources.drawn_scene import (
    BROWN,
    CREAM,
    CRIMSON,
    DARK,
    GOLD,
    ORANGE,
    PURPLE,
    RED,
    WHITE,
    YELLOW,
    Colour,
    Painter,
    jitter,
    pick,
    shade,
)
from trainer.embedded.drawn_shapes import GREEN, PALETTE, Sprite, box, polar


def fruit(rng: np.random.Generator, *, count: int) -> Painter:
    """Returns the painter of one fruit, two on stems, or a bunch."""
    colour = pick(rng, RED, CRIMSON, YELLOW, PURPLE, ORANGE, GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        size = {1: 0.8, 2: 0.4}.get(count, 0.2) * radius
        places = {1: [(0.0, 0.1)], 2: [(-0.5, 0.5), (0.5, 0.4)]}.get(count)
        if places is None:
            rows = ((i, row) for row in range(5) for i in range(5 - row))
            places = [
                (0.38 * (i - (4 - row) / 2), -0.6 + 0.32 * row) for i, row in rows
            ]
        for dx, dy in places:
            x, y = centre + dx * radius, centre + dy * radius
            if count <= 2:
                top = (centre + 0.1 * radius, centre - radius)
                pencil.line((x, y, *top), fill=BROWN, width=max(2, int(radius * 0.05)))
            fill = shade(colour, rng.uniform(0.85, 1.1))
            pencil.ellipse(box(x, y, size), fill=fill, outline=shade(fill, 0.7))
            light = box(x - 0.35 * size, y - 0.35 * size, 0.2 * size)
            pencil.ellipse(light, fill=shade(fill, 1.5))
        return image, "foot"

    return paint


def pumpkin(rng: np.random.Generator) -> Painter:
    """Returns the painter of a pumpkin with ribs."""
    colour = pick(rng, ORANGE, GOLD, GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for half in (1.0, 0.75, 0.5, 0.25):
            rib = (centre - half * radius, centre - 0.6 * radius)
            end = (centre + half * radius, centre + 0.7 * radius)
            fill = shade(colour, 1.2 - 0.35 * half)
            pencil.ellipse((*rib, *end), fill=fill, outline=shade(colour, 0.6))
        stalk = (centre - 4, centre - 0.9 * radius, centre + 4, centre - 0.5 * radius)
        pencil.rectangle(stalk, fill=BROWN)
        return image, "foot"

    return paint


def mushroom(rng: np.random.Generator) -> Painter:
    """Returns the painter of a mushroom whose cap has spots."""
    colour = pick(rng, RED, BROWN, ORANGE, CREAM)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        stalk = (centre - 0.2 * radius, centre, centre + 0.2 * radius, centre + radius)
        pencil.rounded_rectangle(stalk, 0.1 * radius, fill=CREAM)
        pencil.pieslice(
            box(centre, centre + 0.1 * radius, 0.95 * radius), 180, 360, colour
        )
        for _ in range(8):
            x, y = polar(centre, rng.uniform(0.2, 0.75) * radius, rng.uniform(3.5, 5.9))
            pencil.ellipse(box(x, y, 0.08 * radius), fill=WHITE)
        return image, "foot"

    return paint


def butterfly(rng: np.random.Generator) -> Painter:
    """Returns the painter of a butterfly."""
    colour, spot = pick(rng, *PALETTE), pick(rng, DARK, WHITE, ORANGE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for side in (-1, 1):
            for dy, size in ((-0.35, 0.5), (0.4, 0.36)):
                x, y = centre + side * size * radius, centre + dy * radius
                pencil.ellipse(box(x, y, size * radius), colour, shade(colour, 0.5))
                pencil.ellipse(box(x, y, 0.4 * size * radius), spot)
        body = (centre - 0.06 * radius, centre - 0.7 * radius)
        pencil.ellipse((*body, centre + 0.06 * radius, centre + 0.8 * radius), DARK)
        return image, "centre"

    return paint


def beetle(rng: np.random.Generator) -> Painter:
    """Returns the painter of a round beetle with spots and six legs."""
    colour = pick(rng, RED, ORANGE, YELLOW, GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for angle in (-0.6, 0, 0.6, math.pi - 0.6, math.pi, math.pi + 0.6):
            pencil.line((centre, centre, *polar(centre, radius, angle)), DARK, 3)
        pencil.ellipse(box(centre, centre - 0.6 * radius, 0.35 * radius), DARK)
        pencil.ellipse(box(centre, centre, 0.75 * radius), colour, DARK)
        pencil.line(
            (centre, centre - 0.7 * radius, centre, centre + 0.7 * radius), DARK, 3
        )
        for dx, dy in ((-0.35, -0.3), (0.35, -0.3), (-0.35, 0.3), (0.35, 0.3)):
            spot = box(centre + dx * radius, centre + dy * radius, 0.13 * radius)
            pencil.ellipse(spot, DARK)
        return image, "centre"

    return paint


def fish(rng: np.random.Generator) -> Painter:
    """Returns the painter of a fish with stripes."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        tail = [(centre + 0.4 * radius, centre)]
        tail += [(centre + radius, centre + dy * radius) for dy in (-0.5, 0.5)]
        pencil.polygon(tail, fill=shade(colour, 0.8))
        body = (centre - radius, centre - 0.45 * radius)
        pencil.ellipse((*body, centre + 0.6 * radius, centre + 0.45 * radius), colour)
        for x in (-0.4, -0.1, 0.2):
            line = (centre + x * radius, centre - 0.3 * radius)
            end = (centre + x * radius, centre + 0.3 * radius)
            pencil.line((*line, *end), shade(colour, 0.6), int(0.08 * radius) + 1)
        pencil.ellipse(box(centre - 0.7 * radius, centre - 0.1 * radius, 4), DARK)
        return image, "foot"

    return paint


def caterpillar(rng: np.random.Generator) -> Painter:
    """Returns the painter of a chain of discs."""
    colour = jitter(rng, GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for i in range(7):
            x = centre + radius * (i / 3.5 - 0.85)
            y = centre + 0.25 * radius * math.sin(1.6 * i)
            fill: Colour = shade(colour, 0.8 + 0.06 * i)
            pencil.ellipse(box(x, y, 0.24 * radius), fill, shade(fill, 0.6))
        return image, "centre"

    return paint
