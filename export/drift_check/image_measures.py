"""Measures what an image looks like: brightness, contrast, saturation, sharpness."""

import dataclasses
import io

import numpy as np
from PIL import Image

from pipeline.inspection import perceptual_hash

# All images are measured at this size, so that the measures of photographs of different
# sizes can be compared. It is close to the size that a classifier sees.
_SIDE_PX = 224


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure.

    lower, higher: how images with a lower or a higher value are described.
    """

    name: str
    lower: str
    higher: str


# In the order of the columns. The values are fractions of the range of a pixel:
# brightness: mean of the luma.
# contrast: standard deviation of the luma.
# saturation: mean of the saturation in HSV.
# sharpness: standard deviation of the luma's Laplacian (Pech-Pacheco et al., 2000).
MEASURES = (
    Measure("brightness", "darker", "brighter"),
    Measure("contrast", "flatter", "richer in contrast"),
    Measure("saturation", "paler", "more colourful"),
    Measure("sharpness", "less sharp", "sharper"),
)


def measure_image(image_bytes: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns the measures of an image and its perceptual hash.

    Returns:
      float32 [4], in the order of MEASURES, and bool [256].

    Raises:
      Exception: of any type, if Pillow cannot decode the image.
    """
    with Image.open(io.BytesIO(image_bytes)) as opened:
        opened.draft("RGB", (_SIDE_PX, _SIDE_PX))
        image = opened.convert("RGB")
    hash_bits = perceptual_hash.compute_hash(image.convert("L"))
    small = image.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    luma = np.asarray(small.convert("L"), np.float32) / 255
    saturation = np.asarray(small.convert("HSV"), np.float32)[..., 1] / 255
    laplacian = (
        luma[:-2, 1:-1]
        + luma[2:, 1:-1]
        + luma[1:-1, :-2]
        + luma[1:-1, 2:]
        - 4 * luma[1:-1, 1:-1]
    )
    values = (luma.mean(), luma.std(), saturation.mean(), laplacian.std())
    return np.array(values, np.float32), hash_bits
