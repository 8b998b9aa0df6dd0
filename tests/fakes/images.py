"""Draws small photographs of shapes and writes them to disk."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "stripe")

# With it, seed 1 gives every class to every split from 25 images a class on.
_SALT = 2


def draw(label: str, index: int) -> Image.Image:
    """A shape of random place and colour on noise; differs with each index."""
    rng = np.random.default_rng([CLASSES.index(label), index, _SALT])
    width, height = (int(side) for side in rng.integers(40, 64, 2))
    noise = rng.integers(0, 90, (height, width, 3))
    image = Image.fromarray(noise.astype(np.uint8))
    pencil = ImageDraw.Draw(image)
    colour = tuple(int(channel) for channel in rng.integers(120, 255, 3))
    x, y = (int(offset) for offset in rng.integers(2, 15, 2))
    box = (x, y, x + 24, y + 24)
    if label == "circle":
        pencil.ellipse(box, fill=colour)
    elif label == "square":
        pencil.rectangle(box, fill=colour)
    else:
        ends = [int(end) for end in rng.integers(0, 40, 4)]
        pencil.line(ends, fill=colour, width=5)
    return image


def write_folder(folder: pathlib.Path, *, per_class: int = 20) -> pathlib.Path:
    """Writes one folder of JPEG files a class."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            path = folder / label / f"{index:02d}.jpg"
            draw(label, index).save(path, quality=90)
    return folder


def colour_jpeg(colour: str, *, side: int = 16) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "JPEG")
    return file.getvalue()
