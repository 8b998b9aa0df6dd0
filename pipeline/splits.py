"""The split of a group of duplicates: a pure function of (seed, group key)."""

import hashlib
from collections.abc import Mapping, Sequence

SPLITS = ("train", "validation", "test")


def parse_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Checks the shares of train, validation and test.

    Raises:
      ValueError: not three positive numbers that add up to 1.
    """
    valid = (
        len(fractions) == len(SPLITS)
        and all(fraction > 0 for fraction in fractions)
        and abs(sum(fractions) - 1) < 1e-6
    )
    if not valid:
        received = ",".join(str(fraction) for fraction in fractions)
        raise ValueError(
            "--splits must be three positive shares (train,validation,test) that add "
            f"up to 1. Received: --splits={received}"
        )
    return tuple(fractions)


def split_of(group_key: str, *, fractions: Sequence[float], seed: int) -> str:
    """The split of one group; depends on nothing but the arguments.

    Adding images therefore moves no other group, and neither the order of the files
    nor the machine matters. The price: shares are met on average, not exactly.
    """
    position = _position(group_key, seed)
    if position < fractions[0]:
        return "train"
    return "validation" if position < fractions[0] + fractions[1] else "test"


def split_in_fold(group_key: str, *, fold: int, num_folds: int, seed: int) -> str:
    """The split of one group in one of num_folds folds.

    Fold k tests on the k-th part of the groups, validates on the next and trains on the
    others: over all folds each image is tested on once.
    """
    part = int(_position(group_key, seed) * num_folds)
    return {fold: "test", (fold + 1) % num_folds: "validation"}.get(part, "train")


def fold_of(group_key: str, *, num_folds: int, seed: int) -> int:
    """Which fold holds a group out, drawn anew: splits take ranges of one draw."""
    return int(_position(group_key, f"folds {seed}") * num_folds)


def _position(group_key: str, seed: int | str) -> float:
    """Where in [0, 1) a group lies."""
    digest = hashlib.sha256(f"{seed}:{group_key}".encode()).digest()
    # 53 bits, all that a float holds: 64 could round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def missing_classes(
    labels: Mapping[str, str], splits: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Takes name -> label and name -> split; gives the (split, label) without image."""
    present = {(splits[name], label) for name, label in labels.items()}
    return [
        (split, label)
        for label in sorted(set(labels.values()))
        for split in SPLITS
        if (split, label) not in present
    ]


def find_seed(
    labels: Mapping[str, str],
    groups: Mapping[str, str],
    *,
    fractions: Sequence[float],
    seed: int,
) -> int | None:
    """The first larger seed that gives every class to every split; None: not soon."""
    for candidate in range(seed + 1, seed + 200):
        made = {
            name: split_of(group, fractions=fractions, seed=candidate)
            for name, group in groups.items()
        }
        if not missing_classes(labels, made):
            return candidate
    return None
