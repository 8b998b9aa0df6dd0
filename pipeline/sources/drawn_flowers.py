"""Draws the embedded sample: five flowers, procedural, seeded, without a network."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from pipeline.sources import drawn_scene

CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")
_SIZES = ((320, 240), (240, 320), (320, 213), (240, 180), (200, 280), (256, 256))

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def draw_jpeg(label: str, index: int, *, seed: int = 1) -> bytes:
    """Draws one image as a JPEG file; a pure function of its arguments.

    Raises:
      ValueError: unknown label or negative index.
    """
    file = io.BytesIO()
    draw_image(label, index, seed=seed).save(file, "JPEG", quality=88)
    return file.getvalue()


def draw_image(label: str, index: int, *, seed: int = 1) -> Image.Image:
    """Draws one RGB image with sides between 180 and 320 pixels; see draw_jpeg."""
    if label not in CLASSES:
        raise ValueError(
            f"A sample is one of {', '.join(CLASSES)}. Received: label={label!r}"
        )
    if index < 0:
        raise ValueError(f"An index is not negative. Received: index={index}")
    rng = np.random.default_rng([seed, CLASSES.index(label), index])
    size = _SIZES[rng.integers(len(_SIZES))]
    canvas = drawn_scene.draw_background(rng, size)
    flowers = int(rng.choice([1, 1, 2, 3, 5]))
    scale = min(canvas.size) * rng.uniform(0.24, 0.46) / math.sqrt(flowers)
    # One colouring a picture: the flowers in it are of one plant.
    paint = _PAINTERS[label](rng)
    for centre in drawn_scene.place_flowers(rng, flowers, canvas.size, scale):
        sprite, hold = paint(scale * rng.uniform(0.8, 1.2))
        drawn_scene.draw_stem(rng, canvas, centre, scale)
        drawn_scene.paste_flower(rng, canvas, sprite, centre, hold)
    drawn_scene.draw_leaves(rng, canvas, scale, front=True)
    return drawn_scene.photograph(rng, canvas.resize(size, Image.Resampling.BOX))


def _sprite(radius):
    """A transparent square with a pencil; its centre and the scale of one radius."""
    side = int(2.3 * radius) + 4
    image = Image.new("RGBA", (side, side))
    return image, ImageDraw.Draw(image), side / 2


def _petal(centre, angle, inner, outer, width, *, point=1.0, steps=10):
    """Outline of a petal that leaves the centre at an angle; point > 1 is sharper."""
    t = np.linspace(0, 1, steps)
    along = inner + (outer - inner) * t
    half = width * np.sin(np.pi * t**point) ** 0.8
    across = np.concatenate([half, -half[::-1]])
    along = np.concatenate([along, along[::-1]])
    x = centre + along * math.cos(angle) - across * math.sin(angle)
    y = centre + along * math.sin(angle) + across * math.cos(angle)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _rays(rng, pencil, centre, colour, *, count, inner, outer, width, point, ragged):
    """A wreath of petals, each of its own shade and length."""
    start = rng.uniform(0, 2 * math.pi)
    for i in range(count):
        angle = start + 2 * math.pi * i / count + rng.normal(0, 0.25 / count)
        length = outer * rng.uniform(1 - ragged, 1)
        fill = drawn_scene.shade(colour, rng.uniform(0.82, 1.06))
        outline = _petal(centre, angle, inner, length, width, point=point)
        pencil.polygon(outline, fill=fill, outline=drawn_scene.shade(fill, 0.8))


def _disc(rng, pencil, centre, radius, colour, *, dots, dot_colour):
    """A disc with seeds in the spiral that sunflower heads grow in."""
    box = (centre - radius, centre - radius, centre + radius, centre + radius)
    pencil.ellipse(box, fill=colour, outline=drawn_scene.shade(colour, 0.7))
    for i in range(dots):
        distance = radius * math.sqrt((i + 0.5) / dots) * 0.95
        angle = i * _GOLDEN_ANGLE
        x = centre + distance * math.cos(angle)
        y = centre + distance * math.sin(angle)
        size = radius * 0.045
        fill = drawn_scene.shade(dot_colour, rng.uniform(0.7, 1.2))
        pencil.ellipse((x - size, y - size, x + size, y + size), fill=fill)


def _paint_daisy(rng):
    colour = drawn_scene.pick(
        rng,
        drawn_scene.WHITE,
        drawn_scene.WHITE,
        drawn_scene.CREAM,
        drawn_scene.PINK,
        drawn_scene.YELLOW,
    )
    disc = drawn_scene.pick(
        rng, drawn_scene.YELLOW, drawn_scene.GOLD, drawn_scene.ORANGE
    )
    count = int(rng.integers(13, 24))

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        for reach in (1.0, 0.9):
            _rays(
                rng,
                pencil,
                centre,
                colour,
                count=count,
                inner=0.15 * radius,
                outer=reach * radius,
                width=radius * 1.6 / count,
                point=1.6,
                ragged=0.12,
            )
        disc_radius = radius * rng.uniform(0.22, 0.3)
        _disc(rng, pencil, centre, disc_radius, disc, dots=25, dot_colour=disc)
        return image, "centre"

    return paint


def _paint_dandelion(rng):
    if rng.random() < 0.4:
        return _paint_clock(rng)
    colour = drawn_scene.pick(
        rng, drawn_scene.YELLOW, drawn_scene.YELLOW, drawn_scene.GOLD
    )

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        for reach in (1.0, 0.85, 0.66, 0.46, 0.28):
            _rays(
                rng,
                pencil,
                centre,
                drawn_scene.shade(colour, 1.08 - 0.14 * (1 - reach)),
                count=int(46 * reach) + 14,
                inner=0.02 * radius,
                outer=reach * radius,
                width=radius * 0.035,
                point=1.9,
                ragged=0.25,
            )
        return image, "centre"

    return paint


def _paint_clock(rng):
    """The seed head: a ball of parachutes, mostly air."""
    colour = drawn_scene.jitter(rng, (226, 226, 220), 10)

    def paint(radius):
        image, pencil, centre = _sprite(radius)
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
        pencil.ellipse(box, fill=(*drawn_scene.BROWN, 255))
        return image, "centre"

    return paint


def _paint_rose(rng):
    colour = drawn_scene.pick(
        rng,
        drawn_scene.RED,
        drawn_scene.CRIMSON,
        drawn_scene.PINK,
        drawn_scene.WHITE,
        drawn_scene.YELLOW,
        drawn_scene.ORANGE,
    )

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        turn = rng.uniform(0, 2 * math.pi)
        folds = 24
        for i in range(folds):
            # From the outside in: broad overlapping petals on a tightening spiral.
            share = 1 - i / folds
            angle = turn + i * _GOLDEN_ANGLE + rng.normal(0, 0.1)
            size = radius * (0.13 + 0.4 * share) * rng.uniform(0.92, 1.08)
            away = radius * 0.45 * share
            x = centre + away * math.cos(angle)
            y = centre + away * math.sin(angle)
            fill = drawn_scene.shade(colour, 0.62 + 0.42 * share + rng.normal(0, 0.03))
            box = (x - size, y - size, x + size, y + size)
            pencil.ellipse(box, fill=fill)
            # The lit rim of the petal and the shadow it throws inwards.
            degrees = math.degrees(angle)
            rim = max(1, int(radius * 0.03))
            pencil.arc(
                box, degrees - 80, degrees + 80, drawn_scene.shade(fill, 1.22), rim
            )
            pencil.arc(
                box, degrees + 100, degrees + 260, drawn_scene.shade(fill, 0.6), rim
            )
        return image, "centre"

    return paint


def _paint_sunflower(rng):
    colour = drawn_scene.pick(
        rng, drawn_scene.YELLOW, drawn_scene.GOLD, drawn_scene.GOLD, drawn_scene.ORANGE
    )
    disc = drawn_scene.pick(rng, drawn_scene.BROWN, drawn_scene.DARK, drawn_scene.DARK)
    count = int(rng.integers(20, 34))
    disc_share = rng.uniform(0.42, 0.56)

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        for reach in (1.0, 0.92):
            _rays(
                rng,
                pencil,
                centre,
                drawn_scene.shade(colour, reach),
                count=count,
                inner=0.3 * radius,
                outer=reach * radius,
                width=radius * 2.4 / count,
                point=0.8,
                ragged=0.15,
            )
        _disc(
            rng,
            pencil,
            centre,
            radius * disc_share,
            disc,
            dots=150,
            dot_colour=drawn_scene.shade(
                drawn_scene.jitter(rng, drawn_scene.BROWN), 1.5
            ),
        )
        return image, "centre"

    return paint


def _paint_tulip(rng):
    colour = drawn_scene.pick(
        rng,
        drawn_scene.RED,
        drawn_scene.YELLOW,
        drawn_scene.PINK,
        drawn_scene.WHITE,
        drawn_scene.PURPLE,
        drawn_scene.ORANGE,
    )

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        foot = (centre, centre + 0.95 * radius)
        width, flare = radius * rng.uniform(0.5, 0.68), rng.uniform(0.75, 1.15)
        # Two petals behind, two at the sides, one in front.
        shapes = ((-0.45, 0.9, 0.7), (0.45, 0.9, 0.7), (-0.8, 1.0, 0.86))
        shapes += ((0.8, 1.0, 0.86), (0.0, 0.88, 1.04))
        for side, height, light in shapes:
            fill = drawn_scene.shade(colour, light * rng.uniform(0.95, 1.05))
            outline = _cup_petal(foot, side * flare, height, width, radius)
            pencil.polygon(outline, fill=fill, outline=drawn_scene.shade(fill, 0.75))
            x, y = foot
            tip = outline[len(outline) // 2]
            pencil.line((x, y, *tip), fill=drawn_scene.shade(fill, 0.86), width=1)
        return image, "foot"

    return paint


def _cup_petal(foot, side, height, width, radius):
    """Outline of one petal of a cup, from the foot up to its tip and down again."""
    x, y = foot
    t = np.linspace(0, 1, 14)
    spine_x = x + side * width * np.sin(0.6 * np.pi * t)
    spine_y = y - 1.8 * radius * height * t
    half = 0.62 * width * np.sin(np.pi * np.clip(t, 0, 1) ** 0.75) ** 0.7
    outline_x = np.concatenate([spine_x - half, (spine_x + half)[::-1]])
    outline_y = np.concatenate([spine_y, spine_y[::-1]])
    return list(zip(outline_x.tolist(), outline_y.tolist(), strict=True))


_PAINTERS = {
    "daisy": _paint_daisy,
    "dandelion": _paint_dandelion,
    "rose": _paint_rose,
    "sunflower": _paint_sunflower,
    "tulip": _paint_tulip,
}
