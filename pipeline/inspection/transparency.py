"""Finds transparent pixels, and puts an image on white.

A decoder that drops the alpha channel shows the colours of transparent pixels. These
colours are often black, or the background that a program cut away. They must not decide
what a model learns.
"""

import numpy as np
from PIL import Image

# Viewers show white. If the colour could be chosen, the preparation and every client
# would have to choose the same.
BACKGROUND = "white"


def may_be_transparent(opened: Image.Image) -> bool:
    """Tells by the header whether an image may have transparent pixels."""
    return opened.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (
        "transparency" in opened.info and opened.mode in ("P", "L", "RGB", "1")
    )


def is_transparent(image: Image.Image) -> bool:
    """Tells whether any pixel of an image is not opaque; decodes the image."""
    return int(np.asarray(get_alpha(image)).min(initial=255)) < 255


def get_alpha(image: Image.Image) -> Image.Image:
    """Returns the opacity of each pixel, an "L" image: 0 is transparent."""
    return image.convert("RGBA").getchannel("A")


def put_on_background(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Returns the image as "RGB", with its transparent pixels on white."""
    background = Image.new("RGB", image.size, BACKGROUND)
    # By way of RGBA, because a palette may hold transparent colours.
    return Image.composite(image.convert("RGBA").convert("RGB"), background, alpha)
