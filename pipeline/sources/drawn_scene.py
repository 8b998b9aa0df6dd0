"""Draws the embedded sample: five flowers, procedural, seeded, without a network."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

_SUPERSAMPLING = 2

# The colours overlap on purpose: what tells the classes apart is shape.
WHITE, CREAM = (246, 245, 240), (250, 238, 205)
YELLOW, GOLD, ORANGE = (250, 212, 40), (244, 180, 24), (240, 132, 36)
PINK, RED, CRIMSON = (236, 130, 168), (206, 30, 44), (150, 14, 46)
PURPLE, BROWN, DARK = (140, 70, 160), (92, 54, 26), (48, 28, 16)


def jitter(rng, colour, amount=18):
    return _colour(
        channel + change
        for channel, change in zip(colour, rng.normal(0, amount, 3), strict=True)
    )


def shade(colour, factor):
    return _colour(channel * factor for channel in colour)


def _colour(channels):
    return tuple(min(255, max(0, int(channel))) for channel in channels)


def pick(rng, *colours):
    return jitter(rng, colours[rng.integers(len(colours))])


def draw_background(rng, size):
    """Meadow, soil, sky, wall or bokeh, as a blurred mixture of two colours."""
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
    low, high = (np.array(jitter(rng, end), np.float32) for end in (low, high))
    canvas = Image.fromarray((low + (high - low) * share).astype(np.uint8))
    pencil = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(int(rng.integers(0, 40))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.01, 0.06) * width
        colour = pick(rng, WHITE, YELLOW, PINK, RED, PURPLE)
        box = (x - radius, y - radius, x + radius, y + radius)
        pencil.ellipse(box, fill=(*colour, int(rng.integers(30, 120))))
    draw_leaves(rng, canvas, 0.2 * width, front=False)
    # Out of focus anyway, so it is drawn small and enlarged.
    canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 4.5))))
    return canvas.resize((width * _SUPERSAMPLING, height * _SUPERSAMPLING))


def draw_leaves(rng, canvas, scale, *, front):
    """Blades of grass: many behind the flowers, a few across them."""
    pencil = ImageDraw.Draw(canvas)
    width, height = canvas.size
    count = int(rng.integers(0, 3) if front else rng.integers(0, 30))
    for _ in range(count):
        x, top = rng.uniform(0, width), rng.uniform(0.25, 1.0) * height
        lean, thick = rng.normal(0, 0.2) * height, scale * rng.uniform(0.03, 0.09)
        green = jitter(rng, (62, 118, 48), 22)
        tip = (x + lean, top)
        pencil.polygon([(x - thick, height), tip, (x + thick, height)], fill=green)


def place_flowers(rng, flowers, size, scale):
    """Centres that keep some distance from one another."""
    centres = []
    for _ in range(60):
        x = rng.uniform(0.25, 0.75) if flowers == 1 else rng.uniform(0.12, 0.88)
        y = rng.uniform(0.28, 0.66) if flowers == 1 else rng.uniform(0.15, 0.8)
        centre = (x * size[0], y * size[1])
        if all(math.dist(centre, other) > 1.3 * scale for other in centres):
            centres.append(centre)
        if len(centres) == flowers:
            break
    return centres


def draw_stem(rng, canvas, centre, scale):
    x, y = centre
    bend = rng.normal(0, 0.3) * scale
    green = jitter(rng, (76, 128, 54), 16)
    points = [(x, y), (x + bend, (y + canvas.height) / 2), (x + bend, canvas.height)]
    width = max(2, int(scale * rng.uniform(0.05, 0.1)))
    ImageDraw.Draw(canvas).line(points, fill=green, width=width, joint="curve")


def paste_flower(rng, canvas, sprite, centre, hold):
    """Pastes a flower, seen at a slant and turned; hold: the point on the centre."""
    side = sprite.width
    squash = rng.uniform(0.62, 1.0)
    # An upright flower sways; one seen from above may lie any way round.
    angle = rng.normal(0, 12) if hold == "foot" else rng.uniform(0, 360)
    turned = sprite.rotate(angle, Image.Resampling.BILINEAR)
    if hold != "foot":
        turned = turned.resize((side, max(1, int(side * squash))))
        turned = turned.rotate(
            rng.normal(0, 25), Image.Resampling.BILINEAR, expand=True
        )
    corner = (int(centre[0] - turned.width / 2), int(centre[1] - turned.height / 2))
    canvas.paste(turned, corner, turned)


def photograph(rng, image):
    """Light, colour temperature, vignette, focus and noise of a camera."""
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
