"""Draws the parts of flowers: petals, wreaths of petals and discs."""

import math

import numpy as np
from PIL import Image, ImageDraw

from pipeline.sources.drawn_scene import Colour, Point, shade

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

Outline = list[Point]


def start_sprite(
    radius: float,
) -> tuple[Image.Image, ImageDraw.ImageDraw, float]:
    """Returns a transparent square image for one flower, its pencil and its centre.

    The centre is half of the side, in pixels: the same number for x and y.
    """
    side = int(2.3 * radius) + 4
    image = Image.new("RGBA", (side, side))
    return image, ImageDraw.Draw(image), side / 2


def outline_petal(
    centre: float,
    angle: float,
    *,
    inner: float,
    outer: float,
    width: float,
    point: float = 1.0,
) -> Outline:
    """Returns the outline of a petal that points away from the centre at an angle.

    inner, outer: distances of its two ends from the centre, in pixels.
    point: a value above 1 makes the outer end sharper.
    """
    t = np.linspace(0, 1, 10)
    along = inner + (outer - inner) * t
    half = width * np.sin(np.pi * t**point) ** 0.8
    across = np.concatenate([half, -half[::-1]])
    along = np.concatenate([along, along[::-1]])
    x = centre + along * math.cos(angle) - across * math.sin(angle)
    y = centre + along * math.sin(angle) + across * math.cos(angle)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def draw_wreath(
    rng: np.random.Generator,
    pencil: ImageDraw.ImageDraw,
    centre: float,
    colour: Colour,
    *,
    count: int,
    inner: float,
    outer: float,
    width: float,
    point: float,
    raggedness: float,
) -> None:
    """Draws a wreath of petals; each petal has its own shade and length.

    count: number of petals. inner, outer, width, point: see outline_petal.
    raggedness: a petal is shorter than `outer` by up to this share, range [0, 1).
    """
    start = rng.uniform(0, 2 * math.pi)
    for i in range(count):
        angle = start + 2 * math.pi * i / count + rng.normal(0, 0.25 / count)
        length = outer * rng.uniform(1 - raggedness, 1)
        fill = shade(colour, rng.uniform(0.82, 1.06))
        outline = outline_petal(
            centre, angle, inner=inner, outer=length, width=width, point=point
        )
        pencil.polygon(outline, fill=fill, outline=shade(fill, 0.8))


def draw_disc(
    rng: np.random.Generator,
    pencil: ImageDraw.ImageDraw,
    centre: float,
    radius: float,
    *,
    colour: Colour,
    dots: int,
    dot_colour: Colour,
) -> None:
    """Draws a disc with dots in a spiral, like the seeds of a sunflower.

    centre, radius: in pixels. dots: number of dots.
    """
    box = (centre - radius, centre - radius, centre + radius, centre + radius)
    pencil.ellipse(box, fill=colour, outline=shade(colour, 0.7))
    for i in range(dots):
        distance = radius * math.sqrt((i + 0.5) / dots) * 0.95
        angle = i * GOLDEN_ANGLE
        x = centre + distance * math.cos(angle)
        y = centre + distance * math.sin(angle)
        size = radius * 0.045
        fill = shade(dot_colour, rng.uniform(0.7, 1.2))
        pencil.ellipse((x - size, y - size, x + size, y + size), fill=fill)


def outline_cup_petal(
    foot: Point, radius: float, *, side: float, height: float, width: float
) -> Outline:
    """Returns the outline of one petal of a cup: from the foot to the tip and back.

    foot, radius, width: in pixels.
    side: how far the petal leans: negative to the left, positive to the right.
    height: factor of the height, 1 for a petal of the usual height.
    """
    x, y = foot
    t = np.linspace(0, 1, 14)
    spine_x = x + side * width * np.sin(0.6 * np.pi * t)
    spine_y = y - 1.8 * radius * height * t
    half = 0.62 * width * np.sin(np.pi * np.clip(t, 0, 1) ** 0.75) ** 0.7
    outline_x = np.concatenate([spine_x - half, (spine_x + half)[::-1]])
    outline_y = np.concatenate([spine_y, spine_y[::-1]])
    return list(zip(outline_x.tolist(), outline_y.tolist(), strict=True))
