"""Measures how light, how rich in contrast and how sharp a photograph is."""

import dataclasses

import numpy as np

# This share of the pixels may be darker than `darkest`, and as many lighter than
# `lightest`, so that a few pixels of noise do not count.
_ENDS_SHARE = 0.005
# Sharpness is measured on the sharpest hundredth of the pixels, because most of a
# photograph may be background.
_SHARPEST_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class Quality:
    """What is measured of a photograph that is reduced to 64 x 64 pixels.

    darkest: grey value, 0 to 255; 0.5 % of the pixels are darker.
    lightest: grey value, 0 to 255; 0.5 % of the pixels are lighter.
    sharpness: how abrupt the strongest edges are: the Laplacian of the sharpest
      hundredth of the pixels, divided by lightest - darkest. Most photographs have 0.5
      to 1.5. None if the photograph is of one grey value or was enlarged to 64 pixels.
    """

    darkest: int
    lightest: int
    sharpness: float | None


def measure_quality(small: np.ndarray, *, is_enlarged: bool) -> Quality:
    """Measures a small grey picture, which exists for the perceptual hash.

    The Laplacian measures sharpness (Pech-Pacheco et al., 2000), but it also grows with
    the contrast. Therefore it is divided by the range of the grey values.

    Args:
      small: uint8 [64, 64]; see perceptual_hash.shrink.
      is_enlarged: the photograph has a side of less than 64 pixels.
    """
    counts = np.cumsum(np.bincount(small.ravel(), minlength=256))
    darkest, lightest = np.searchsorted(
        counts, [_ENDS_SHARE * small.size, (1 - _ENDS_SHARE) * small.size]
    ).tolist()
    sharpness = None
    if not is_enlarged and lightest > darkest:
        sharpness = _sharpest(_laplacian(small)) / (lightest - darkest)
    return Quality(darkest, lightest, sharpness)


def _laplacian(grey: np.ndarray) -> np.ndarray:
    """Computes the Laplacian int16 [H - 2, W - 2] of grey values uint8 [H, W]."""
    pixels = grey.astype(np.int16)
    laplacian = 4 * pixels[1:-1, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]
    laplacian -= pixels[:-2, 1:-1]
    laplacian -= pixels[2:, 1:-1]
    return laplacian


def _sharpest(laplacian: np.ndarray) -> int:
    """Returns the absolute value that the largest hundredth of the values reach."""
    counts = np.cumsum(np.bincount(np.abs(laplacian).ravel()))
    return int(np.searchsorted(counts, (1 - _SHARPEST_SHARE) * counts[-1]))
