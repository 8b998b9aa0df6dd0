"""Draws shapes and patterns."""

import math

import numpy as np
from PIL import Image, ImageDraw

from pipeline.sources import drawn_petals
from pipeline.sources.drawn_scene import (
    BROWN,
    CREAM,
    CRIMSON,
    DARK,
    GOLD,
    ORANGE,
    PINK,
    PURPLE,
    RED,
    WHITE,
    YELLOW,
    Painter,
    Point,
    pick,
    shade,
)

BLUE, GREEN = (60, 100, 200), (60, 150, 70)
PALETTE = (WHITE, CREAM, YELLOW, GOLD, ORANGE, PINK, RED, CRIMSON, PURPLE, BLUE)

Sprite = tuple[Image.Image, str]


def box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """Returns the box of a circle."""
    return x - radius, y - radius, x + radius, y + radius


def polar(centre: float, distance: float, angle: float) -> Point:
    """Returns the point at a distance and an angle (in radians) from the centre."""
    return centre + distance * math.cos(angle), centre + distance * math.sin(angle)


def _turn(centre: float, radii: list[float], start: float) -> list[Point]:
    """Returns points around the centre at equal angles, at these distances in turn."""
    return [
        polar(centre, radius, start + 2 * math.pi * i / len(radii))
        for i, radius in enumerate(radii)
    ]


def star(rng: np.random.Generator, *, points: int, inner: float) -> Painter:
    """Returns the painter of a star; inner=1 makes it a polygon of 2 * points sides."""
    colour = pick(rng, *PALETTE, GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        outline = _turn(centre, [radius, inner * radius] * points, -math.pi / 2)
        pencil.polygon(outline, fill=colour, outline=shade(colour, 0.7))
        return image, "centre"

    return paint


def polygon(rng: np.random.Generator, *, sides: int) -> Painter:
    """Returns the painter of a regular polygon with a bright edge."""
    colour = pick(rng, *PALETTE, GREEN)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        outline = _turn(centre, [radius] * sides, -math.pi / 2)
        pencil.polygon(outline, fill=colour)
        pencil.line([*outline, outline[0]], shade(colour, 1.4), int(radius * 0.1) + 1)
        return image, "centre"

    return paint


def rings(rng: np.random.Generator, *, count: int) -> Painter:
    """Returns the painter of concentric rings; one is a ring with a hole."""
    colour, other = pick(rng, *PALETTE), pick(rng, *PALETTE, DARK)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for i in range(2 * count):
            fill = (0, 0, 0, 0) if count == 1 and i else (colour, other)[i % 2]
            reach = radius * (1 - i / (2 * count))
            pencil.ellipse(box(centre, centre, reach), fill=fill)
        return image, "centre"

    return paint


def spiral(rng: np.random.Generator) -> Painter:
    """Returns the painter of a spiral line."""
    colour = pick(rng, *PALETTE, DARK)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        turns = np.linspace(0, 7 * math.pi, 160)
        line = [polar(centre, radius * t / turns[-1], t) for t in turns]
        pencil.line(line, colour, max(2, int(radius * 0.09)), joint="curve")
        return image, "centre"

    return paint


def crescent(rng: np.random.Generator) -> Painter:
    """Returns the painter of a crescent."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        pencil.ellipse(box(centre, centre, radius), fill=colour)
        pencil.ellipse(box(centre + 0.45 * radius, centre, 0.85 * radius), (0, 0, 0, 0))
        return image, "centre"

    return paint


def heart(rng: np.random.Generator) -> Painter:
    """Returns the painter of a heart."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        t = np.linspace(0, 2 * math.pi, 60)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        scale = radius / 17
        outline = np.stack([centre + scale * x, centre - scale * y], axis=1)
        pencil.polygon(
            outline.ravel().tolist(), fill=colour, outline=shade(colour, 0.7)
        )
        return image, "foot"

    return paint


def cross(rng: np.random.Generator) -> Painter:
    """Returns the painter of a cross of two bars."""
    colour = pick(rng, *PALETTE)

    def paint(radius: float) -> Sprite:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        thin = 0.25 * radius
        for dx, dy in ((radius, thin), (thin, radius)):
            bar = (centre - dx, centre - dy, centre + dx, centre + dy)
            pencil.rectangle(bar, fill=colour)
        return image, "centre"

    return paint


def patterned(rng: np.random.Generator, *, kind: str) -> Painter:
    """Returns the painter of a round patch with a pattern.

    kind: "stripes", "checks", "dots", "waves", "rays" or "noise".
    """
    colours = np.array(
        [pick(rng, *PALETTE, GREEN), pick(rng, DARK, BROWN, WHITE, BLUE)]
    )
    cycles = rng.uniform(4, 8)

    def paint(radius: float) -> Sprite:
        image, _, centre = drawn_petals.start_sprite(radius)
        side = image.width
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        wave_x, wave_y = np.sin(cycles * math.pi * x), np.sin(cycles * math.pi * y)
        masks = {
            "stripes": lambda: wave_x > 0,
            "checks": lambda: wave_x * wave_y > 0,
            "dots": lambda: wave_x + wave_y > 1,
            "waves": lambda: np.sin(cycles * math.pi * (y + 0.1 * np.sin(9 * x))) > 0,
            "rays": lambda: np.sin(2 * round(cycles) * np.arctan2(y, x)) > 0,
            "noise": lambda: rng.normal(size=(side, side)) > 0,
        }
        pixels = colours[masks[kind]().astype(int)].astype(np.uint8)
        mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).ellipse(box(centre, centre, radius), fill=255)
        image.paste(Image.fromarray(pixels), (0, 0), mask)
        return image, "centre"

    return paint
