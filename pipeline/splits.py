"""prepare(): from a source to the prepared-data directory."""

import collections
import csv
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence

from pipeline.audit.decide import Audit
from pipeline.sources.images import SPLITS


def hash_split(
    fractions: Sequence[float], seed: int, *, folds: int, fold: int | None
) -> Callable[[str], str]:
    """Group key -> split."""
    if fold is None:
        return functools.partial(split_of, fractions=fractions, seed=seed)
    return functools.partial(split_in_fold, fold=fold, num_folds=folds, seed=seed)


def split_groups(
    found: Audit, *, by_hash: Callable[[str], str], resplit: bool
) -> dict[str, str]:
    """Name -> split, the same for all images of a group.

    by_hash: group key -> split, where the source has no split of its own.
    resplit: ignore the source's own splits.
    """
    own_split = {finding.image.name: finding.image.split for finding in found.usable}
    members = collections.defaultdict(list)
    for name, group in found.group_of.items():
        members[group].append(name)
    split_of = {}
    for group, names in members.items():
        own = {own_split[name] for name in names} - {None}
        if resplit or not own:
            chosen = by_hash(group)
        else:
            # A group that the source itself tears apart may be learnt, not tested on.
            chosen = own.pop() if len(own) == 1 else "train"
        split_of |= dict.fromkeys(names, chosen)
    return split_of


def check_every_class_in_every_split(
    found: Audit,
    split_of: Mapping[str, str],
    *,
    fractions: Sequence[float] | None,
    seed: int,
) -> None:
    """fractions: where another seed may help; None where it would not."""
    label_of = {finding.image.name: finding.image.label for finding in found.usable}
    missing = missing_classes(label_of, split_of)
    if not missing:
        return
    images_of = collections.Counter(label_of.values())
    lacking = "; ".join(
        f"{split} has no '{label}' ({images_of[label]} usable images in all)"
        for split, label in missing
    )
    better = fractions and find_seed(
        label_of, found.group_of, fractions=fractions, seed=seed
    )
    advice = f"Add images, or use --seed={better}" if better else "Add images"
    raise ValueError(
        f"Every split needs images of every class. Received: {lacking}. What goes where"
        f" follows from the content of the images and --seed={seed}. {advice}."
    )


def read_splits(path: str) -> dict[str, str]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["name"]: row["split"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--splits_from must be a splits.csv that pipeline.main wrote ({error!r}). "
            f"Received: --splits_from={path}"
        ) from error


def check_names(split_of: Mapping[str, str], names: Sequence[str], path: str) -> None:
    new = sorted(set(names) - set(split_of))
    gone = sorted(set(split_of) - set(names))
    if new or gone or not set(split_of.values()) <= set(SPLITS):
        raise ValueError(
            f"--splits_from must name exactly the usable images, each in one of "
            f"{', '.join(SPLITS)}. Received: --splits_from={path}, which lacks "
            f"{len(new)} {new[:1]} and has {len(gone)} too many {gone[:1]}"
        )


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
    position = _unit_interval_hash(group_key, seed)
    if position < fractions[0]:
        return "train"
    return "validation" if position < fractions[0] + fractions[1] else "test"


def split_in_fold(group_key: str, *, fold: int, num_folds: int, seed: int) -> str:
    """The split of one group in one of num_folds folds.

    Fold k tests on the k-th part of the groups, validates on the next and trains on the
    others: over all folds each image is tested on once.
    """
    part = int(_unit_interval_hash(group_key, seed) * num_folds)
    return {fold: "test", (fold + 1) % num_folds: "validation"}.get(part, "train")


def fold_of(group_key: str, *, num_folds: int, seed: int) -> int:
    """Which fold holds a group out, drawn anew: splits take ranges of one draw."""
    return int(_unit_interval_hash(group_key, f"folds {seed}") * num_folds)


def _unit_interval_hash(group_key: str, seed: int | str) -> float:
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
