"""Draws the images of the source `sample`: five kinds of flower, from a seed."""

import io
import math

import numpy as np
from PIL import Image

from pipeline.sources import drawn_petals, drawn_scene
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
    jitter,
    pick,
    shade,
)

CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def draw_jpeg(label: str, index: int, *, seed: int = 1) -> bytes:
    """Draws one image and returns the bytes of its JPEG file.

    Equal arguments give the same image.

    Args:
      label: a name in CLASSES.
      index: number of the image in its class, from 0.
      seed: decides all images.

    Raises:
      ValueError: unknown label or negative index.
    """
    file = io.BytesIO()
    draw_image(label, index, seed=seed).save(file, "JPEG", quality=88)
    return file.getvalue()


def draw_image(label: str, index: int, *, seed: int = 1) -> Image.Image:
    """Draws one RGB image with sides of 180 to 320 pixels; see draw_jpeg.

    Raises:
      ValueError: unknown label or negative index.
    """
    if label not in CLASSES:
        raise ValueError(
            f"The label must be one of {', '.join(CLASSES)}. Received: label={label!r}"
        )
    if index < 0:
        raise ValueError(f"The index must not be negative. Received: index={index}")
    rng = np.random.default_rng([seed, CLASSES.index(label), index])
    return drawn_scene.draw_scene(rng, _PAINTERS[label])


def _paint_daisy(rng: np.random.Generator) -> Painter:
    colour = pick(
        rng,
        WHITE,
        WHITE,
        CREAM,
        PINK,
        YELLOW,
    )
    disc = pick(rng, YELLOW, GOLD, ORANGE)
    count = int(rng.integers(13, 24))

    def paint(radius: float) -> tuple[Image.Image, str]:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for reach in (1.0, 0.9):
            drawn_petals.draw_wreath(
                rng,
                pencil,
                centre,
                colour,
                count=count,
                inner=0.15 * radius,
                outer=reach * radius,
                width=radius * 1.6 / count,
                point=1.6,
                raggedness=0.12,
            )
        disc_radius = radius * rng.uniform(0.22, 0.3)
        drawn_petals.draw_disc(
            rng, pencil, centre, disc_radius, colour=disc, dots=25, dot_colour=disc
        )
        return image, "centre"

    return paint


def _paint_dandelion(rng: np.random.Generator) -> Painter:
    if rng.random() < 0.4:
        return _paint_clock(rng)
    colour = pick(rng, YELLOW, YELLOW, GOLD)

    def paint(radius: float) -> tuple[Image.Image, str]:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for reach in (1.0, 0.85, 0.66, 0.46, 0.28):
            drawn_petals.draw_wreath(
                rng,
                pencil,
                centre,
                shade(colour, 1.08 - 0.14 * (1 - reach)),
                count=int(46 * reach) + 14,
                inner=0.02 * radius,
                outer=reach * radius,
                width=radius * 0.035,
                point=1.9,
                raggedness=0.25,
            )
        return image, "centre"

    return paint


def _paint_clock(rng: np.random.Generator) -> Painter:
    """Returns the painter of a seed head: a thin ball of hairs with tufts."""
    colour = jitter(rng, (226, 226, 220), 10)

    def paint(radius: float) -> tuple[Image.Image, str]:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        width = max(1, int(radius * 0.012))
        for _ in range(150):
            angle = rng.uniform(0, 2 * math.pi)
            reach = 0.95 * radius * math.sqrt(rng.uniform(0.12, 1))
            x, y = centre + reach * math.cos(angle), centre + reach * math.sin(angle)
            faint = (*colour, int(rng.integers(60, 150)))
            pencil.line((centre, centre, x, y), fill=faint, width=width)
            for spread in np.linspace(-1.1, 1.1, 7):
                tuft = radius * 0.13
                tip = (
                    x + tuft * math.cos(angle + spread),
                    y + tuft * math.sin(angle + spread),
                )
                pencil.line((x, y, *tip), fill=(*colour, 190), width=width)
        core = radius * 0.1
        box = (centre - core, centre - core, centre + core, centre + core)
        pencil.ellipse(box, fill=(*BROWN, 255))
        return image, "centre"

    return paint


def _paint_rose(rng: np.random.Generator) -> Painter:
    colour = pick(
        rng,
        RED,
        CRIMSON,
        PINK,
        WHITE,
        YELLOW,
        ORANGE,
    )

    def paint(radius: float) -> tuple[Image.Image, str]:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        turn = rng.uniform(0, 2 * math.pi)
        folds = 24
        for i in range(folds):
            # From the outside in: broad overlapping petals on a tightening spiral.
            share = 1 - i / folds
            angle = turn + i * drawn_petals.GOLDEN_ANGLE + rng.normal(0, 0.1)
            size = radius * (0.13 + 0.4 * share) * rng.uniform(0.92, 1.08)
            away = radius * 0.45 * share
            x = centre + away * math.cos(angle)
            y = centre + away * math.sin(angle)
            fill = shade(colour, 0.62 + 0.42 * share + rng.normal(0, 0.03))
            box = (x - size, y - size, x + size, y + size)
            pencil.ellipse(box, fill=fill)
            # The bright rim of the petal, and its shadow on the inner petals.
            degrees = math.degrees(angle)
            rim = max(1, int(radius * 0.03))
            pencil.arc(box, degrees - 80, degrees + 80, shade(fill, 1.22), rim)
            pencil.arc(box, degrees + 100, degrees + 260, shade(fill, 0.6), rim)
        return image, "centre"

    return paint


def _paint_sunflower(rng: np.random.Generator) -> Painter:
    colour = pick(rng, YELLOW, GOLD, GOLD, ORANGE)
    disc = pick(rng, BROWN, DARK, DARK)
    count = int(rng.integers(20, 34))
    disc_share = rng.uniform(0.42, 0.56)

    def paint(radius: float) -> tuple[Image.Image, str]:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        for reach in (1.0, 0.92):
            drawn_petals.draw_wreath(
                rng,
                pencil,
                centre,
                shade(colour, reach),
                count=count,
                inner=0.3 * radius,
                outer=reach * radius,
                width=radius * 2.4 / count,
                point=0.8,
                raggedness=0.15,
            )
        drawn_petals.draw_disc(
            rng,
            pencil,
            centre,
            radius * disc_share,
            colour=disc,
            dots=150,
            dot_colour=shade(jitter(rng, BROWN), 1.5),
        )
        return image, "centre"

    return paint


def _paint_tulip(rng: np.random.Generator) -> Painter:
    colour = pick(
        rng,
        RED,
        YELLOW,
        PINK,
        WHITE,
        PURPLE,
        ORANGE,
    )

    def paint(radius: float) -> tuple[Image.Image, str]:
        image, pencil, centre = drawn_petals.start_sprite(radius)
        foot = (centre, centre + 0.95 * radius)
        width, flare = radius * rng.uniform(0.5, 0.68), rng.uniform(0.75, 1.15)
        # Two petals behind, two at the sides, one in front.
        shapes = (
            (-0.45, 0.9, 0.7),
            (0.45, 0.9, 0.7),
            (-0.8, 1.0, 0.86),
            (0.8, 1.0, 0.86),
            (0.0, 0.88, 1.04),
        )
        for side, height, light in shapes:
            fill = shade(colour, light * rng.uniform(0.95, 1.05))
            outline = drawn_petals.outline_cup_petal(
                foot, radius, side=side * flare, height=height, width=width
            )
            pencil.polygon(outline, fill=fill, outline=shade(fill, 0.75))
            x, y = foot
            tip = outline[len(outline) // 2]
            pencil.line((x, y, *tip), fill=shade(fill, 0.86), width=1)
        return image, "foot"

    return paint


_PAINTERS = {
    "daisy": _paint_daisy,
    "dandelion": _paint_dandelion,
    "rose": _paint_rose,
    "sunflower": _paint_sunflower,
    "tulip": _paint_tulip,
}
