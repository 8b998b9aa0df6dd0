"""Draws the scene around the flowers: background, leaves, stems and the camera."""

import math
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

_SUPERSAMPLING = 2

_SIZES = ((320, 240), (240, 320), (320, 213), (240, 180), (200, 280), (256, 256))

Colour = tuple[int, int, int]
Point = tuple[float, float]
# paint(radius in pixels) -> the flower on a transparent square, and which point of the
# flower is the centre of the square: "centre" or "foot".
Painter = Callable[[float], tuple[Image.Image, str]]

# Classes share colours on purpose: only the shape distinguishes the classes.
WHITE, CREAM = (246, 245, 240), (250, 238, 205)
YELLOW, GOLD, ORANGE = (250, 212, 40), (244, 180, 24), (240, 132, 36)
PINK, RED, CRIMSON = (236, 130, 168), (206, 30, 44), (150, 14, 46)
PURPLE, BROWN, DARK = (140, 70, 160), (92, 54, 26), (48, 28, 16)


def draw_scene(
    rng: np.random.Generator, make_painter: Callable[[np.random.Generator], Painter]
) -> Image.Image:
    """Returns an RGB image of one to five flowers, with sides of 180 to 320 pixels."""
    size = _SIZES[rng.integers(len(_SIZES))]
    canvas = draw_background(rng, size)
    flowers = int(rng.choice([1, 1, 2, 3, 5]))
    scale = min(canvas.size) * rng.uniform(0.24, 0.46) / math.sqrt(flowers)
    # All flowers of an image have the same colours, like those of one plant.
    paint = make_painter(rng)
    for centre in place_flowers(rng, flowers, canvas.size, scale):
        sprite, hold = paint(scale * rng.uniform(0.8, 1.2))
        draw_stem(rng, canvas, centre, scale)
        paste_flower(rng, canvas, sprite, centre, hold=hold)
    draw_leaves(rng, canvas, scale, front=True)
    return photograph(rng, canvas.resize(size, Image.Resampling.BOX))


def jitter(rng: np.random.Generator, colour: Colour, amount: float = 18) -> Colour:
    """Returns the colour with random noise on each channel.

    amount: standard deviation, in steps of [0, 255].
    """
    return _colour(
        channel + change
        for channel, change in zip(colour, rng.normal(0, amount, 3), strict=True)
    )


def shade(colour: Colour, factor: float) -> Colour:
    """Returns the colour darkened (factor below 1) or lightened (above 1)."""
    return _colour(channel * factor for channel in colour)


def _colour(channels: Iterable[float]) -> Colour:
    red, green, blue = (min(255, max(0, int(channel))) for channel in channels)
    return red, green, blue


def pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    """Returns one of the colours, chosen at random and jittered."""
    return jitter(rng, colours[rng.integers(len(colours))])


def draw_background(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Returns a canvas of twice the size with a blurred mixture of two colours.

    It can look like a meadow, soil, the sky, a wall or lights out of focus.
    """
    width, height = size
    pairs = (
        ((40, 82, 30), (110, 150, 60)),
        ((20, 36, 20), (60, 96, 50)),
        ((84, 62, 44), (140, 116, 84)),
        ((120, 160, 210), (210, 226, 240)),
        ((176, 170, 160), (226, 220, 210)),
        ((30, 30, 34), (90, 84, 96)),
        ((150, 120, 60), (220, 200, 130)),
        ((120, 60, 80), (210, 170, 180)),
    )
    low, high = pairs[rng.integers(len(pairs))]
    cells = rng.uniform(0, 1, (int(rng.integers(3, 14)), int(rng.integers(3, 14))))
    field = Image.fromarray((cells * 255).astype(np.uint8))
    field = field.resize((width, height), Image.Resampling.BICUBIC)
    share = np.asarray(field, np.float32)[..., None] / 255
    darkest, lightest = (np.array(jitter(rng, end), np.float32) for end in (low, high))
    canvas = Image.fromarray((darkest + (lightest - darkest) * share).astype(np.uint8))
    pencil = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(int(rng.integers(0, 40))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.01, 0.06) * width
        colour = pick(rng, WHITE, YELLOW, PINK, RED, PURPLE)
        box = (x - radius, y - radius, x + radius, y + radius)
        pencil.ellipse(box, fill=(*colour, int(rng.integers(30, 120))))
    draw_leaves(rng, canvas, 0.2 * width, front=False)
    # The background is blurred, so it is drawn small and enlarged.
    canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 4.5))))
    return canvas.resize((width * _SUPERSAMPLING, height * _SUPERSAMPLING))


def draw_leaves(
    rng: np.random.Generator, canvas: Image.Image, scale: float, *, front: bool
) -> None:
    """Draws blades of grass onto the canvas.

    front: draw the few blades in front of the flowers, not the many behind them.
    """
    pencil = ImageDraw.Draw(canvas)
    width, height = canvas.size
    count = int(rng.integers(0, 3) if front else rng.integers(0, 30))
    for _ in range(count):
        x, top = rng.uniform(0, width), rng.uniform(0.25, 1.0) * height
        lean, thick = rng.normal(0, 0.2) * height, scale * rng.uniform(0.03, 0.09)
        green = jitter(rng, (62, 118, 48), 22)
        tip = (x + lean, top)
        pencil.polygon([(x - thick, height), tip, (x + thick, height)], fill=green)


def place_flowers(
    rng: np.random.Generator, flowers: int, size: tuple[int, int], scale: float
) -> list[Point]:
    """Returns up to `flowers` centres, in pixels, at a distance from one another."""
    centres: list[Point] = []
    for _ in range(60):
        x = rng.uniform(0.25, 0.75) if flowers == 1 else rng.uniform(0.12, 0.88)
        y = rng.uniform(0.28, 0.66) if flowers == 1 else rng.uniform(0.15, 0.8)
        centre = (x * size[0], y * size[1])
        if all(math.dist(centre, other) > 1.3 * scale for other in centres):
            centres.append(centre)
        if len(centres) == flowers:
            break
    return centres


def draw_stem(
    rng: np.random.Generator, canvas: Image.Image, centre: Point, scale: float
) -> None:
    """Draws a bent stem onto the canvas, from the centre to the lower edge."""
    x, y = centre
    bend = rng.normal(0, 0.3) * scale
    green = jitter(rng, (76, 128, 54), 16)
    points = [(x, y), (x + bend, (y + canvas.height) / 2), (x + bend, canvas.height)]
    width = max(2, int(scale * rng.uniform(0.05, 0.1)))
    ImageDraw.Draw(canvas).line(points, fill=green, width=width, joint="curve")


def paste_flower(
    rng: np.random.Generator,
    canvas: Image.Image,
    sprite: Image.Image,
    centre: Point,
    *,
    hold: str,
) -> None:
    """Pastes a flower onto the canvas, turned and, if seen from above, at a slant.

    hold: "foot" for a flower that stands upright, "centre" for one seen from above.
    """
    side = sprite.width
    squash = rng.uniform(0.62, 1.0)
    # An upright flower leans a little; one seen from above has any direction.
    angle = rng.normal(0, 12) if hold == "foot" else rng.uniform(0, 360)
    turned = sprite.rotate(angle, Image.Resampling.BILINEAR)
    if hold != "foot":
        turned = turned.resize((side, max(1, int(side * squash))))
        turned = turned.rotate(
            rng.normal(0, 25), Image.Resampling.BILINEAR, expand=True
        )
    corner = (int(centre[0] - turned.width / 2), int(centre[1] - turned.height / 2))
    canvas.paste(turned, corner, turned)


def photograph(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Changes an image as a camera does: tinted, unevenly lit, noisy and blurred."""
    pixels = np.asarray(image, np.float32)
    height, width = pixels.shape[:2]
    warmth = rng.normal(0, 0.07)
    pixels = pixels * np.array([1 + warmth, 1, 1 - warmth], np.float32)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 1 - rng.uniform(0, 0.45) * (x**2 + y**2) / 2
    light = light * (1 + rng.normal(0, 0.15) * x + rng.normal(0, 0.15) * y)
    pixels = pixels * light[..., None] + rng.normal(0, rng.uniform(1, 9), pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    image = ImageEnhance.Brightness(image).enhance(float(rng.uniform(0.65, 1.25)))
    image = ImageEnhance.Contrast(image).enhance(float(rng.uniform(0.75, 1.25)))
    image = ImageEnhance.Color(image).enhance(float(rng.uniform(0.55, 1.2)))
    return image.filter(ImageFilter.GaussianBlur(float(rng.choice([0, 0, 0.5, 1.2]))))
