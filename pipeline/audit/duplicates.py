"""Finds near duplicates: resized, re-encoded, retouched or slightly cropped copies."""

import numpy as np

from pipeline.inspection import perceptual_hash

# Limits on the number of differing bits, of 256. Measured on real photographs
# (BUILD_NOTES.md): re-encoded and resized copies differ in at most 16 bits, those
# cropped by 2 % in 28, recoloured ones in 50, unrelated photographs in 82 and more,
# unrelated drawings of one kind in 50 and more.
NEAR_DUPLICATE_BITS = 52
# The stricter limit for a picture under two classes, which is dropped, not grouped.
SAME_PICTURE_BITS = 32

# Up to this number of hashes all pairs are compared, which takes seconds. With more
# hashes, two are compared only if they agree in all bits of a band, which is a random
# choice of 16 bits.
_EXHAUSTIVE_UP_TO = 10_000
_BANDS = 128
_BITS_PER_BAND = 16
_LARGEST_BUCKET = 1_000

_NO_PAIRS = np.empty(0, np.int64)


def find_pairs(
    hashes: np.ndarray, *, max_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the pictures whose hashes differ in at most max_bits.

    A chain of pairs connects equal hashes: ten thousand blank pictures give ten
    thousand pairs, not fifty million. With more than 10,000 different hashes, a few
    pairs may be missed.

    Args:
      hashes: bool [N, 256].
      max_bits: 0 to 256.

    Returns:
      int [P], int [P], int [P]: left and right picture of each pair, differing bits.
    """
    packed = np.packbits(hashes, axis=1)
    distinct, node_of = np.unique(packed, axis=0, return_inverse=True)
    distinct = np.unpackbits(distinct, axis=1).astype(bool)
    if len(distinct) <= _EXHAUSTIVE_UP_TO:
        left, right, bits = _all_close_pairs(distinct, max_bits)
    else:
        left, right, bits = _banded_close_pairs(distinct, max_bits)
    order = np.argsort(node_of.ravel(), kind="stable")
    nodes = node_of.ravel()[order]
    equal = np.flatnonzero(nodes[:-1] == nodes[1:])
    first = order[np.searchsorted(nodes, np.arange(len(distinct)))]
    return (
        np.concatenate([first[left], order[equal]]),
        np.concatenate([first[right], order[equal + 1]]),
        np.concatenate([bits, np.zeros(len(equal), np.int64)]),
    )


def group_pairs(left: np.ndarray, right: np.ndarray, *, count: int) -> np.ndarray:
    """Returns int [count], the number of the group of each picture.

    Pictures are in one group if a pair or a chain of pairs connects them.

    left, right: int [P], the two pictures of each pair.
    """
    from scipy import sparse  # It is slow to import, and only this function needs it.

    ones = np.ones(len(left), bool)
    graph = sparse.coo_matrix((ones, (left, right)), shape=(count, count))
    _, group_of = sparse.csgraph.connected_components(graph, directed=False)
    return group_of


def _all_close_pairs(
    hashes: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    signs = hashes.astype(np.float32) * 2 - 1
    lefts, rights, bits = [_NO_PAIRS], [_NO_PAIRS], [_NO_PAIRS]
    for start in range(0, len(signs), 1024):
        # The product of two sign vectors is 256 - 2 * the number of differing bits.
        products = signs[start : start + 1024] @ signs[start:].T
        left, right = np.nonzero(products >= perceptual_hash.HASH_BITS - 2 * max_bits)
        later = left < right
        lefts.append(left[later] + start)
        rights.append(right[later] + start)
        near = products[left[later], right[later]].astype(np.int64)
        bits.append((perceptual_hash.HASH_BITS - near) // 2)
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(bits)


def _banded_close_pairs(
    hashes: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    packed = np.packbits(hashes, axis=1).view(np.uint64)
    rng = np.random.default_rng(0)
    weights = 1 << np.arange(_BITS_PER_BAND, dtype=np.int64)
    lefts, rights, bits = [_NO_PAIRS], [_NO_PAIRS], [_NO_PAIRS]
    for _ in range(_BANDS):
        band = rng.choice(perceptual_hash.HASH_BITS, _BITS_PER_BAND, replace=False)
        codes = hashes[:, band] @ weights
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
            bits.append(differing[close].astype(np.int64))
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(bits)
