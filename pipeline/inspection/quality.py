"""Measures how light, how rich in contrast and how sharp a photograph is."""

import dataclasses

import numpy as np
from PIL import Image

# The shorter side at which photographs are measured. A smaller one has no sharpness:
# its pixels are as coarse as a blur.
SIDE_PX = 96

# The share of pixels that may be darker or lighter than the two ends of the range: a
# few pixels of noise, or a border of one pixel at one side, do not count.
_ENDS_SHARE = 0.005
# Sharpness is that of the sharpest hundredth: most of a photograph may be background.
_SHARPEST_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class Quality:
    """What is measured of a photograph whose shorter side is reduced to SIDE_PX.

    darkest, lightest: grey values, 0 to 255, that 0.5 % of the pixels are below or
      above.
    sharpness: how abrupt the strongest edges are: the Laplacian of the sharpest
      hundredth of the pixels, divided by lightest - darkest. Most photographs have 0.4
      to 1.5. None if the photograph is smaller than SIDE_PX or of one grey value.
    """

    darkest: int
    lightest: int
    sharpness: float | None


def measure_quality(grey: Image.Image) -> Quality:
    """Measures an "L" image.

    The Laplacian measures sharpness (Pech-Pacheco et al., 2000), but it also grows with
    the contrast. Divided by the range of the grey values, it does so no longer.
    """
    width, height = grey.size
    factor = SIDE_PX / min(width, height)
    if factor < 1:
        size = (max(round(width * factor), 1), max(round(height * factor), 1))
        grey = grey.resize(size, Image.Resampling.BOX)
    counts = np.cumsum(grey.histogram())
    darkest, lightest = np.searchsorted(
        counts, [_ENDS_SHARE * counts[-1], (1 - _ENDS_SHARE) * counts[-1]]
    ).tolist()
    sharpness = None
    if factor <= 1 and lightest > darkest:
        # Faster than np.asarray, which asks the image for a description first.
        pixels = np.frombuffer(grey.tobytes(), np.uint8).astype(np.int16)
        laplacian = _laplacian(pixels.reshape(grey.height, grey.width))
        sharpness = _sharpest(laplacian) / (lightest - darkest)
    return Quality(darkest, lightest, sharpness)


def _laplacian(grey: np.ndarray) -> np.ndarray:
    """Returns the Laplacian of every second row of int16 [H, W], without the border."""
    rows = grey[1:-1:2]
    laplacian = 4 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]
    laplacian -= grey[: 2 * len(rows) : 2, 1:-1]
    laplacian -= grey[2 : 2 * len(rows) + 1 : 2, 1:-1]
    return laplacian


def _sharpest(laplacian: np.ndarray) -> int:
    """Returns the size that the largest hundredth of the values reach."""
    counts = np.cumsum(np.bincount(np.abs(laplacian).ravel()))
    return int(np.searchsorted(counts, (1 - _SHARPEST_SHARE) * counts[-1]))
