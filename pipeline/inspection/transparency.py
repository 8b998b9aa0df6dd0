"""Finds transparent pixels, and puts an image on a background.

A decoder that drops the alpha channel shows the colours of transparent pixels. These
colours are often black, or the background that a program cut away. They must not decide
what a model learns.
"""

import numpy as np
from PIL import Image

# "mean" is the mean colour of what is visible in the image itself, so that no client
# needs to know another image. White is what a viewer shows.
BACKGROUNDS = ("white", "black", "mean")


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


def put_on_background(
    image: Image.Image, alpha: Image.Image, background: str
) -> Image.Image:
    """Returns the image as "RGB", with its transparent pixels on a background.

    alpha: see get_alpha. background: one of BACKGROUNDS.
    """
    # By way of RGBA, because a palette may hold transparent colours.
    colours = image.convert("RGBA").convert("RGB")
    colour = _find_mean(colours, alpha) if background == "mean" else background
    return Image.composite(colours, Image.new("RGB", image.size, colour), alpha)


def _find_mean(colours: Image.Image, alpha: Image.Image) -> str | tuple[int, ...]:
    """Returns the mean of an "RGB" image, weighted by alpha; white if all is hidden."""
    weights = np.asarray(alpha)
    total = int(weights.sum(dtype=np.int64))
    if not total:
        return "white"
    # By rows: a sum over the whole image would copy it with 64 bits a number.
    sums = sum(
        row_weights.astype(np.int64) @ row.astype(np.int64)
        for row_weights, row in zip(weights, np.asarray(colours), strict=True)
    )
    return tuple((np.asarray(sums) / total).round().astype(int).tolist())
