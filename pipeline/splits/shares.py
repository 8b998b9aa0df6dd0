"""Cuts the groups of a class into parts whose sizes follow given shares."""

import hashlib
import itertools
import math
from collections.abc import Sequence

# Up to this many groups in the smallest part, its size is the nearest whole number.
_EXACT_GROUPS = 10


def find_position(group_key: str, seed: int | str) -> float:
    """Returns a number in [0, 1), uniform over the keys of groups."""
    digest = hashlib.sha256(f"{seed}:{group_key}".encode()).digest()
    # 53 bits, the precision of a float; 64 bits could be rounded up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def fold_of(group_key: str, *, num_folds: int, seed: int) -> int:
    """Returns the fold that holds a group out when heads are compared.

    The position is another one than that which decides the split.
    """
    return int(find_position(group_key, f"folds {seed}") * num_folds)


def cut(positions: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Returns the part of each group of one class, 0 to len(shares) - 1.

    Each part is a range of positions. A large class is cut at the sums of the shares,
    so that the position of a group alone decides its part, and the shares are met on
    average. A small class is cut where its parts have the nearest whole number of
    groups, each at least one. Between the two, the cut of the large class is used as
    far as a limit that grows with the class.

    One more group moves at most one other group over each cut, and none where the cuts
    are those of a large class. With the shares 0.8, 0.1 and 0.1 a class is small up to
    100 groups, and is practically always cut as a large one from 800.

    Args:
      positions: of the groups, in any order; see find_position.
      shares: positive, with the sum 1. With fewer groups than shares, parts are empty.
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    cuts = _find_cuts([positions[index] for index in order], shares)
    parts = [0] * len(positions)
    for rank, index in enumerate(order):
        parts[index] = sum(rank >= cut for cut in cuts)
    return parts


def _find_cuts(positions: Sequence[float], shares: Sequence[float]) -> list[int]:
    """Returns for all parts but the last how many of the sorted positions end there.

    Each number grows by 0 or 1 if one position is added; that is why no more than one
    group moves over a cut. The limits keep this property: their slopes are in [0, 1].
    """
    count, smallest = len(positions), min(shares)
    slack = max(0.0, smallest * count - _EXACT_GROUPS)
    cuts = []
    for sum_of_shares in itertools.accumulate(shares[:-1]):
        in_large_class = sum(position < sum_of_shares for position in positions)
        lowest = math.floor(sum_of_shares * count - slack + 0.5)
        highest = math.floor(sum_of_shares * count + slack + 0.5)
        cuts.append(min(max(in_large_class, lowest), highest))
    if count < len(shares):
        return cuts
    for index in reversed(range(len(cuts))):  # The parts after each cut need a group.
        following = cuts[index + 1] if index + 1 < len(cuts) else count
        cuts[index] = min(cuts[index], following - 1)
    for index in range(len(cuts)):
        preceding = cuts[index - 1] if index else 0
        cuts[index] = max(cuts[index], preceding + 1)
    return cuts
