"""Finds near duplicates: resized, re-encoded, retouched or slightly cropped twins."""

import imagehash
import numpy as np
from PIL import Image
from scipy import sparse

# Of 256 bits. Measured on real photographs (BUILD_NOTES.md): re-encoded and resized
# twins differ in at most 10, those cropped by 2 % in 36, recoloured ones in 50,
# unrelated photographs in 82 and more, unrelated drawings of one kind in 50 and more.
NEAR_DUPLICATE_BITS = 52
# What must agree before a picture under two classes is thrown away, not just grouped.
SAME_PICTURE_BITS = 32

_HASH_SIDE = 16
_HASH_BITS = _HASH_SIDE**2

# Up to here every pair is compared: seconds. Beyond, only pairs that agree in all bits
# of one of the bands are: 128 random choices of 16 bits.
_EXHAUSTIVE_UP_TO = 10_000
_BANDS = 128
_BITS_A_BAND = 16
_LARGEST_BUCKET = 1_000

_NO_PAIRS = np.empty(0, np.int64)


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> bool [256]: the pHash of the imagehash library.

    The signs of the lowest frequencies of the grey image (Zauner, 2010); insensitive
    to size, encoding and small changes of light.
    """
    return imagehash.phash(Image.fromarray(pixels), hash_size=_HASH_SIDE).hash.ravel()


def find_groups(hashes: np.ndarray, *, max_bits: int) -> np.ndarray:
    """Groups pictures whose hashes differ in at most max_bits, directly or in a chain.

    Args:
      hashes: bool [N, 256].
      max_bits: 0 to 256.

    Returns:
      int [N]: the number of the group of each picture.
    """
    # Equal hashes are one node: ten thousand blank pictures make no bucket of pairs.
    distinct, node_of = np.unique(hashes, axis=0, return_inverse=True)
    count = len(distinct)
    if count <= _EXHAUSTIVE_UP_TO:
        left, right = _all_close_pairs(distinct, max_bits)
    else:
        left, right = _banded_close_pairs(distinct, max_bits)
    ones = np.ones(len(left), bool)
    graph = sparse.coo_matrix((ones, (left, right)), shape=(count, count))
    _, group_of_node = sparse.csgraph.connected_components(graph, directed=False)
    return group_of_node[node_of.ravel()]


def _all_close_pairs(
    hashes: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    signs = hashes.astype(np.float32) * 2 - 1
    lefts, rights = [_NO_PAIRS], [_NO_PAIRS]
    for start in range(0, len(signs), 1024):
        # The product of two sign vectors is 256 - 2 * the number of differing bits.
        products = signs[start : start + 1024] @ signs[start:].T
        left, right = np.nonzero(products >= _HASH_BITS - 2 * max_bits)
        later = left < right
        lefts.append(left[later] + start)
        rights.append(right[later] + start)
    return np.concatenate(lefts), np.concatenate(rights)


def _banded_close_pairs(
    hashes: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    packed = np.packbits(hashes, axis=1).view(np.uint64)
    rng = np.random.default_rng(0)
    weights = 1 << np.arange(_BITS_A_BAND, dtype=np.int64)
    lefts, rights = [_NO_PAIRS], [_NO_PAIRS]
    for _ in range(_BANDS):
        bits = rng.choice(_HASH_BITS, _BITS_A_BAND, replace=False)
        codes = hashes[:, bits] @ weights
        order = np.argsort(codes, kind="stable")
        sorted_codes = codes[order]
        for offset in range(1, _LARGEST_BUCKET):
            same = np.flatnonzero(sorted_codes[:-offset] == sorted_codes[offset:])
            if not len(same):
                break
            left, right = order[same], order[same + offset]
            differing = np.bitwise_count(packed[left] ^ packed[right]).sum(axis=1)
            close = differing <= max_bits
            lefts.append(left[close])
            rights.append(right[close])
    return np.concatenate(lefts), np.concatenate(rights)
