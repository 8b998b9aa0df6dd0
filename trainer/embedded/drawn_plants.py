"""Draws plants that are none of the flowers of the source `sample`."""

import math
from collections.abc import Sequence

import numpy as np

from pipeline.sources import drawn_petals
from pipeline.sources.drawn_scene import (
    BROWN,
    DARK,
    GOLD,
    YELLOW,
    Painter,
    jitter,
    pick,
    shade,
)
from trainer.embedded.drawn_shapes import PALETTE, Sprite, box, polar

_GREEN = (70, 122, 52)


def open_flower(
    rng: np.random.Generator,
    *,
    petals: int,
    width: float,
    point: float = 1.0,
    rings: Sequence[float] = (1.0,),
    disc: float = 0.12,
) -> Painter:
    """Returns the painter of a flower with petals around a disc.

    width: half width of a petal, as a share of the radius; disc: radius of the disc,
      likewise; 0: no disc.
    point: a value above 1 makes the ends of the petals sharper.
    rings: outer radii of the rings of petals, as shares of the radius.
    """
    colour, disc_colour = pick(rng, *PALETTE), pick(rng, YELLOW, GOLD, DARK, _GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for reach in rings:
            drawn_petals.draw_wreath(
                rng,
                pencil,
                centre,
                shade(colour, 0.7 + 0.35 * reach),
                count=petals,
                inner=0.05 * radius,
                outer=reach * radius,
                width=width * radius,
                point=point,
                raggedness=0.08,
            )
        if disc:
            drawn_petals.draw_disc(
                rng,
                pencil,
                centre,
                disc * radius,
                colour=disc_colour,
                dots=20,
                dot_colour=shade(disc_colour, 0.8),
            )
        return image, "centre"

    return paint


def bell(rng: np.random.Generator, *, bells: int) -> Painter:
    """Returns the painter of a stem with bells that hang from it."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        top = centre - radius
        line = [(centre, centre + radius), (centre, top)]
        pencil.line(line, fill=_GREEN, width=max(2, int(radius * 0.05)))
        size = radius * (0.75 if bells == 1 else 0.42)
        for i in range(bells):
            side = (-1) ** i * (0.0 if bells == 1 else 0.5 * radius)
            x, y = centre + side, top + i * 1.3 * radius / bells
            fill = shade(colour, rng.uniform(0.8, 1.1))
            pencil.line(((centre, y), (x, y)), fill=_GREEN, width=2)
            outline = [
                (x - 0.2 * size, y),
                (x - 0.45 * size, y + 0.7 * size),
                (x - 0.7 * size, y + size),
                (x + 0.7 * size, y + size),
                (x + 0.45 * size, y + 0.7 * size),
                (x + 0.2 * size, y),
            ]
            pencil.polygon(outline, fill=fill, outline=shade(fill, 0.7))
        return image, "foot"

    return paint


def spike(rng: np.random.Generator) -> Painter:
    """Returns the painter of a spike: many small blossoms along a stem."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for y in np.linspace(centre + 0.9 * radius, centre - radius, 60):
            share = (y - centre + radius) / (2 * radius)
            x = centre + rng.normal(0, 0.16 * radius * share + 1)
            fill = shade(colour, rng.uniform(0.7, 1.15))
            pencil.ellipse(box(x, y, radius * (0.06 + 0.06 * share)), fill=fill)
        return image, "foot"

    return paint


def ball(rng: np.random.Generator) -> Painter:
    """Returns the painter of a ball of small blossoms with four petals each."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for _ in range(70):
            x, y = polar(
                centre, 0.85 * radius * rng.uniform() ** 0.5, rng.uniform(0, 7)
            )
            fill, size = shade(colour, rng.uniform(0.75, 1.12)), radius * 0.08
            for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                pencil.ellipse(
                    box(x + dx * size, y + dy * size, size),
                    fill=fill,
                    outline=shade(fill, 0.8),
                )
        return image, "centre"

    return paint


def leaf(rng: np.random.Generator, *, lobes: int, depth: float) -> Painter:
    """Returns the painter of one leaf.

    lobes: number of its lobes; 1 is an oval leaf. depth: how deep the cuts are, [0, 1].
    """
    colour = pick(rng, _GREEN, (150, 60, 30), GOLD, (120, 140, 60))

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        angles = np.linspace(-math.pi, math.pi, 90)
        if lobes == 1:
            x, y = 0.5 * np.sin(angles), np.cos(angles)
        else:
            cut = 1 - depth * (0.5 + 0.5 * np.cos(lobes * angles))
            x, y = cut * np.sin(angles), cut * np.cos(angles)
        outline = np.stack([centre + radius * x, centre - radius * y], axis=1)
        pencil.polygon(
            outline.ravel().tolist(), fill=colour, outline=shade(colour, 0.7)
        )
        vein = shade(colour, 1.3)
        pencil.line((centre, centre - radius * 0.9, centre, centre + radius), vein, 2)
        for i in range(lobes if lobes > 1 else 6):
            y_side = centre + radius * (0.8 - 0.25 * i)
            for side in (-0.35, 0.35):
                end = (centre + side * radius, y_side - 0.3 * radius)
                pencil.line((centre, y_side, *end), vein, 1)
        return image, "centre"

    return paint


def fern(rng: np.random.Generator) -> Painter:
    """Returns the painter of a frond with leaflets on both sides."""
    colour = jitter(rng, _GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        bend = rng.uniform(-0.3, 0.3) * radius
        for share in np.linspace(0, 1, 22):
            x = centre + bend * share**2
            y = centre + radius * (1 - 2 * share)
            length = (
                0.75 * radius * math.sin(math.pi * (0.1 + 0.9 * (1 - share)) ** 0.8)
            )
            for side in (-1, 1):
                tip = (x + side * length, y - 0.35 * length)
                leaflet = [(x, y - 0.03 * radius), tip, (x, y + 0.05 * radius)]
                pencil.polygon(leaflet, fill=shade(colour, rng.uniform(0.8, 1.2)))
        return image, "foot"

    return paint


def round_tree(rng: np.random.Generator) -> Painter:
    """Returns the painter of a tree with a round crown."""
    colour = pick(rng, _GREEN, (150, 90, 30), (200, 120, 150))

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        trunk = (centre - 0.1 * radius, centre, centre + 0.1 * radius, centre + radius)
        pencil.rectangle(trunk, fill=jitter(rng, BROWN, 8))
        for _ in range(45):
            x, y = polar(
                centre, 0.55 * radius * rng.uniform() ** 0.5, rng.uniform(0, 7)
            )
            fill = shade(colour, rng.uniform(0.7, 1.2))
            pencil.ellipse(box(x, y - 0.35 * radius, 0.2 * radius), fill=fill)
        return image, "foot"

    return paint


def pine(rng: np.random.Generator) -> Painter:
    """Returns the painter of a tree of triangles."""
    colour = jitter(rng, (40, 90, 50))

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        trunk = (
            centre - 0.08 * radius,
            centre,
            centre + 0.08 * radius,
            centre + radius,
        )
        pencil.rectangle(trunk, fill=jitter(rng, BROWN, 8))
        for i in range(4):
            foot, half = centre + radius * (0.7 - 0.4 * i), radius * (0.65 - 0.12 * i)
            triangle = [
                (centre - half, foot),
                (centre, foot - 0.7 * radius),
                (centre + half, foot),
            ]
            pencil.polygon(triangle, fill=shade(colour, 0.85 + 0.12 * i))
        return image, "foot"

    return paint


def bare_tree(rng: np.random.Generator) -> Painter:
    """Returns the painter of a tree without leaves: branches that fork."""
    colour = pick(rng, BROWN, DARK)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        ends = [(centre, centre + radius, -math.pi / 2, 0.7 * radius)]
        for depth in range(6):
            grown = []
            for x, y, angle, length in ends:
                tip_x, tip_y = (
                    x + length * math.cos(angle),
                    y + length * math.sin(angle),
                )
                width = max(1, int(radius * 0.1 * 0.65**depth))
                pencil.line((x, y, tip_x, tip_y), fill=colour, width=width)
                for side in (-1, 1):
                    turn = angle + side * rng.uniform(0.25, 0.6)
                    grown.append((tip_x, tip_y, turn, length * rng.uniform(0.6, 0.75)))
            ends = grown
        return image, "foot"

    return paint


def cactus(rng: np.random.Generator) -> Painter:
    """Returns the painter of a cactus with two arms."""
    colour = jitter(rng, (80, 140, 80))

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        width = 0.22 * radius
        columns = ((0.0, -1.0, 1.0), (-0.6, -0.5, 0.1), (0.6, -0.3, 0.2))
        for x, top, foot in columns:
            left, right = centre + x * radius - width, centre + x * radius + width
            column = (left, centre + top * radius, right, centre + foot * radius)
            pencil.rounded_rectangle(column, width, fill=colour)
            if x:
                y = centre + foot * radius
                arm = (min(left, centre), y - width, max(right, centre), y + width / 2)
                pencil.rounded_rectangle(arm, width / 2, fill=colour)
            for stripe in np.linspace(left + 3, right - 3, 4):
                pencil.line(
                    (stripe, column[1] + width, stripe, column[3]),
                    fill=shade(colour, 0.7),
                )
        return image, "foot"

    return paint
