"""Computes a hash of an image that resizing and re-encoding hardly change."""

import numpy as np
from PIL import Image

_HASH_SIDE = 16
HASH_BITS = _HASH_SIDE**2
# The side of the small picture that is hashed.
SMALL_SIDE = 4 * _HASH_SIDE
# [16, 64]: its product with a column of pixels gives the lowest frequencies of the
# cosine transform of that column.
_COSINES = 2 * np.cos(
    np.pi
    * np.arange(_HASH_SIDE)[:, None]
    * (2 * np.arange(SMALL_SIDE) + 1)
    / (2 * SMALL_SIDE)
)


def compute_hash(grey: Image.Image) -> np.ndarray:
    """Returns the pHash of an "L" image of any shape, bool [256]; see hash_small."""
    return hash_small(shrink(grey))


def shrink(grey: Image.Image) -> np.ndarray:
    """Resizes an "L" image of any shape to uint8 [64, 64]."""
    # Not the filter of imagehash, which keeps frequencies that the hash ignores.
    size = (SMALL_SIDE, SMALL_SIDE)
    return np.asarray(grey.resize(size, Image.Resampling.HAMMING))


def hash_small(small: np.ndarray) -> np.ndarray:
    """Returns the pHash, bool [256], of a small picture, uint8 [64, 64].

    The bits are the signs of the lowest frequencies (Zauner, 2010). They depend little
    on the size, the encoding and small changes of the light. The function of imagehash
    returns the same bits but takes three times as long, because it also computes the
    frequencies that are not used.
    """
    lowest = _COSINES @ small.astype(np.float64) @ _COSINES.T
    # A frequency that an image does not contain must be 0, not a rounding error.
    lowest = lowest.round(6)
    lowest = lowest.ravel()
    below, above = np.sort(lowest)[HASH_BITS // 2 - 1 : HASH_BITS // 2 + 1]
    return lowest > (below + above) / 2
