"""Finds the images that are farthest from the reference."""

import numpy as np

NEIGHBOURS = 5


def distances_to_reference(reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns the mean distance of each new image to its nearest reference images.

    Args:
      reference, new: float [m, d], float [n, d].

    Returns:
      float64 [n], the mean over the nearest five. The unit is the median of the same
      mean distance among the reference images: an image with 1 is as far from the
      reference images as they are from each other.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(reference) - 1)
    search = NearestNeighbors(n_neighbors=count).fit(reference)
    to_new, _ = search.kneighbors(new)
    to_each_other, _ = search.kneighbors()  # Without an argument, not to itself.
    unit = float(np.median(to_each_other.mean(axis=1))) or 1.0
    return to_new.mean(axis=1) / unit
