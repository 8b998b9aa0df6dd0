"""The split of a group of duplicates: a pure function of (seed, group key)."""

import collections
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
    digest = hashlib.sha256(f"{seed}:{group_key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < fractions[0]:
        return "train"
    return "validation" if position < fractions[0] + fractions[1] else "test"


def check_every_class_in_every_split(
    labels: Mapping[str, str], splits: Mapping[str, str]
) -> None:
    """Takes name -> label and name -> split.

    Raises:
      ValueError: a split lacks a class; says which and how many images there are.
    """
    images_of = collections.Counter(labels.values())
    present = {(labels[name], split) for name, split in splits.items()}
    missing = [
        f"{split} has no '{label}' ({images_of[label]} usable images in all)"
        for label in sorted(images_of)
        for split in SPLITS
        if (label, split) not in present
    ]
    if missing:
        raise ValueError(
            "Every split needs images of every class. Received: "
            + "; ".join(missing)
            + ". Add images, give the split a larger share with --splits, or try "
            "another --seed."
        )
