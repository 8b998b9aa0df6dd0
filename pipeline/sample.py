"""Draws the embedded sample: five flowers, procedural, seeded, without a network."""

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")

_SUPERSAMPLING = 2
_SIZES = ((320, 240), (240, 320), (320, 213), (240, 180), (200, 280), (256, 256))

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

# The colours overlap on purpose: what tells the classes apart is shape.
_WHITE, _CREAM = (246, 245, 240), (250, 238, 205)
_YELLOW, _GOLD, _ORANGE = (250, 212, 40), (244, 180, 24), (240, 132, 36)
_PINK, _RED, _CRIMSON = (236, 130, 168), (206, 30, 44), (150, 14, 46)
_PURPLE, _BROWN, _DARK = (140, 70, 160), (92, 54, 26), (48, 28, 16)


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
    canvas = _draw_background(rng, size)
    flowers = int(rng.choice([1, 1, 2, 3, 5]))
    scale = min(canvas.size) * rng.uniform(0.24, 0.46) / math.sqrt(flowers)
    # One colouring a picture: the flowers in it are of one plant.
    paint = _PAINTERS[label](rng)
    for centre in _place(rng, flowers, canvas.size, scale):
        sprite, hold = paint(scale * rng.uniform(0.8, 1.2))
        _draw_stem(rng, canvas, centre, scale)
        _paste(rng, canvas, sprite, centre, hold)
    _draw_leaves(rng, canvas, scale, front=True)
    return _photograph(rng, canvas.resize(size, Image.Resampling.BOX))


def _jitter(rng, colour, amount=18):
    return _colour(
        channel + change
        for channel, change in zip(colour, rng.normal(0, amount, 3), strict=True)
    )


def _shade(colour, factor):
    return _colour(channel * factor for channel in colour)


def _colour(channels):
    return tuple(min(255, max(0, int(channel))) for channel in channels)


def _pick(rng, *colours):
    return _jitter(rng, colours[rng.integers(len(colours))])


def _draw_background(rng, size):
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
    low, high = (np.array(_jitter(rng, end), np.float32) for end in (low, high))
    canvas = Image.fromarray((low + (high - low) * share).astype(np.uint8))
    pencil = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(int(rng.integers(0, 40))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.01, 0.06) * width
        colour = _pick(rng, _WHITE, _YELLOW, _PINK, _RED, _PURPLE)
        box = (x - radius, y - radius, x + radius, y + radius)
        pencil.ellipse(box, fill=(*colour, int(rng.integers(30, 120))))
    _draw_leaves(rng, canvas, 0.2 * width, front=False)
    # Out of focus anyway, so it is drawn small and enlarged.
    canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 4.5))))
    return canvas.resize((width * _SUPERSAMPLING, height * _SUPERSAMPLING))


def _draw_leaves(rng, canvas, scale, *, front):
    """Blades of grass: many behind the flowers, a few across them."""
    pencil = ImageDraw.Draw(canvas)
    width, height = canvas.size
    count = int(rng.integers(0, 3) if front else rng.integers(0, 30))
    for _ in range(count):
        x, top = rng.uniform(0, width), rng.uniform(0.25, 1.0) * height
        lean, thick = rng.normal(0, 0.2) * height, scale * rng.uniform(0.03, 0.09)
        green = _jitter(rng, (62, 118, 48), 22)
        tip = (x + lean, top)
        pencil.polygon([(x - thick, height), tip, (x + thick, height)], fill=green)


def _place(rng, flowers, size, scale):
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


def _draw_stem(rng, canvas, centre, scale):
    x, y = centre
    bend = rng.normal(0, 0.3) * scale
    green = _jitter(rng, (76, 128, 54), 16)
    points = [(x, y), (x + bend, (y + canvas.height) / 2), (x + bend, canvas.height)]
    width = max(2, int(scale * rng.uniform(0.05, 0.1)))
    ImageDraw.Draw(canvas).line(points, fill=green, width=width, joint="curve")


def _paste(rng, canvas, sprite, centre, hold):
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


def _photograph(rng, image):
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
        fill = _shade(colour, rng.uniform(0.82, 1.06))
        outline = _petal(centre, angle, inner, length, width, point=point)
        pencil.polygon(outline, fill=fill, outline=_shade(fill, 0.8))


def _disc(rng, pencil, centre, radius, colour, *, dots, dot_colour):
    """A disc with seeds in the spiral that sunflower heads grow in."""
    box = (centre - radius, centre - radius, centre + radius, centre + radius)
    pencil.ellipse(box, fill=colour, outline=_shade(colour, 0.7))
    for i in range(dots):
        distance = radius * math.sqrt((i + 0.5) / dots) * 0.95
        angle = i * _GOLDEN_ANGLE
        x = centre + distance * math.cos(angle)
        y = centre + distance * math.sin(angle)
        size = radius * 0.045
        fill = _shade(dot_colour, rng.uniform(0.7, 1.2))
        pencil.ellipse((x - size, y - size, x + size, y + size), fill=fill)


def _paint_daisy(rng):
    colour = _pick(rng, _WHITE, _WHITE, _CREAM, _PINK, _YELLOW)
    disc = _pick(rng, _YELLOW, _GOLD, _ORANGE)
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
    colour = _pick(rng, _YELLOW, _YELLOW, _GOLD)

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        for reach in (1.0, 0.85, 0.66, 0.46, 0.28):
            _rays(
                rng,
                pencil,
                centre,
                _shade(colour, 1.08 - 0.14 * (1 - reach)),
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
    colour = _jitter(rng, (226, 226, 220), 10)

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
        pencil.ellipse(box, fill=(*_BROWN, 255))
        return image, "centre"

    return paint


def _paint_rose(rng):
    colour = _pick(rng, _RED, _CRIMSON, _PINK, _WHITE, _YELLOW, _ORANGE)

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
            fill = _shade(colour, 0.62 + 0.42 * share + rng.normal(0, 0.03))
            box = (x - size, y - size, x + size, y + size)
            pencil.ellipse(box, fill=fill)
            # The lit rim of the petal and the shadow it throws inwards.
            degrees = math.degrees(angle)
            rim = max(1, int(radius * 0.03))
            pencil.arc(box, degrees - 80, degrees + 80, _shade(fill, 1.22), rim)
            pencil.arc(box, degrees + 100, degrees + 260, _shade(fill, 0.6), rim)
        return image, "centre"

    return paint


def _paint_sunflower(rng):
    colour = _pick(rng, _YELLOW, _GOLD, _GOLD, _ORANGE)
    disc = _pick(rng, _BROWN, _DARK, _DARK)
    count = int(rng.integers(20, 34))
    disc_share = rng.uniform(0.42, 0.56)

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        for reach in (1.0, 0.92):
            _rays(
                rng,
                pencil,
                centre,
                _shade(colour, reach),
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
            dot_colour=_shade(_jitter(rng, _BROWN), 1.5),
        )
        return image, "centre"

    return paint


def _paint_tulip(rng):
    colour = _pick(rng, _RED, _YELLOW, _PINK, _WHITE, _PURPLE, _ORANGE)

    def paint(radius):
        image, pencil, centre = _sprite(radius)
        foot = (centre, centre + 0.95 * radius)
        width, flare = radius * rng.uniform(0.5, 0.68), rng.uniform(0.75, 1.15)
        # Two petals behind, two at the sides, one in front.
        shapes = ((-0.45, 0.9, 0.7), (0.45, 0.9, 0.7), (-0.8, 1.0, 0.86))
        shapes += ((0.8, 1.0, 0.86), (0.0, 0.88, 1.04))
        for side, height, light in shapes:
            fill = _shade(colour, light * rng.uniform(0.95, 1.05))
            outline = _cup_petal(foot, side * flare, height, width, radius)
            pencil.polygon(outline, fill=fill, outline=_shade(fill, 0.75))
            x, y = foot
            tip = outline[len(outline) // 2]
            pencil.line((x, y, *tip), fill=_shade(fill, 0.86), width=1)
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
