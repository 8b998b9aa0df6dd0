"""Decides which split each group of images goes to; reads and writes splits.csv."""

import collections
import csv
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from pipeline.audit.decide import Audit
from pipeline.sources.images import SPLITS

_COLUMNS = ("name", "label", "sha256", "group", "split")


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """How the groups of images are split.

    fractions: shares of train, validation and test, for a single split.
    seed: decides, with the key of a group, the split of the group.
    num_folds: number of folds; 0 for a single split.
    splits_from: path of a splits.csv whose splits are repeated, if any.
    resplit: ignore the splits that the source assigns.
    """

    fractions: tuple[float, float, float]
    seed: int
    num_folds: int = 0
    splits_from: str | None = None
    resplit: bool = False


def assign_splits(audit: Audit, plan: SplitPlan, fold: int | None) -> dict[str, str]:
    """Returns name -> split of every usable image.

    fold: the fold to split for; None for a single split.

    Raises:
      ValueError: a split lacks a class, or splits_from names other images.
    """
    if plan.splits_from is not None:
        split_of_name = read_splits(plan.splits_from)
        _check_names(split_of_name, audit.group_of, plan.splits_from)
    else:
        split_of_name = split_groups(
            audit,
            by_hash=hash_split(
                plan.fractions, plan.seed, folds=plan.num_folds, fold=fold
            ),
            resplit=plan.resplit or bool(plan.num_folds),
        )
    _check_every_class_in_every_split(audit, split_of_name, plan)
    return split_of_name


def hash_split(
    fractions: Sequence[float], seed: int, *, folds: int, fold: int | None
) -> Callable[[str], str]:
    """Returns a function from the key of a group to its split."""
    if fold is None:
        return functools.partial(split_of, fractions=fractions, seed=seed)
    return functools.partial(split_in_fold, fold=fold, num_folds=folds, seed=seed)


def split_groups(
    audit: Audit, *, by_hash: Callable[[str], str], resplit: bool
) -> dict[str, str]:
    """Returns name -> split; all images of a group get the same split.

    by_hash: returns the split of a group whose images have none from the source.
    resplit: ignore the splits that the source assigns.
    """
    source_split = {report.image.name: report.image.split for report in audit.usable}
    members = collections.defaultdict(list)
    for name, group in audit.group_of.items():
        members[group].append(name)
    split_of_name: dict[str, str] = {}
    for group, names in members.items():
        source_splits = {s for name in names if (s := source_split[name]) is not None}
        if resplit or not source_splits:
            split = by_hash(group)
        elif len(source_splits) == 1:
            split = source_splits.pop()
        else:
            # The source has near duplicates in several splits. They may be trained on,
            # but a test on them would be too optimistic.
            split = "train"
        split_of_name |= dict.fromkeys(names, split)
    return split_of_name


def _check_every_class_in_every_split(
    audit: Audit, split_of_name: Mapping[str, str], plan: SplitPlan
) -> None:
    label_of = {report.image.name: report.image.label for report in audit.usable}
    missing = missing_classes(label_of, split_of_name)
    if not missing:
        return
    images_of = collections.Counter(label_of.values())
    problems = "; ".join(
        f"{split} has no '{label}' ({images_of[label]} usable images in all)"
        for split, label in missing
    )
    other_seed = None
    if not plan.num_folds:
        other_seed = find_seed(
            label_of, audit.group_of, fractions=plan.fractions, seed=plan.seed
        )
    advice = f"Add images, or use --seed={other_seed}" if other_seed else "Add images"
    raise ValueError(
        f"Every split needs images of every class. Received: {problems}. The split of "
        f"an image depends on its content and on --seed={plan.seed}. {advice}."
    )


def write_splits(
    path: pathlib.Path, audit: Audit, split_of_name: Mapping[str, str]
) -> None:
    """Writes splits.csv: name, label, SHA-256 of the file, group and split."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for report in audit.usable:
            name = report.image.name
            group, split = audit.group_of[name], split_of_name[name]
            writer.writerow([name, report.image.label, report.file_hash, group, split])


def read_splits(path: str) -> dict[str, str]:
    """Reads name -> split from a splits.csv.

    Raises:
      ValueError: there is no such file, or it has no columns name and split.
    """
    try:
        return _read_column(path, "split")
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--splits_from must be a splits.csv that pipeline.main wrote ({error!r}). "
            f"Received: --splits_from={path}"
        ) from error


def read_groups(data_dir: str) -> dict[str, str]:
    """Reads name -> group key from the splits.csv of prepared data.

    Raises:
      ValueError: there is no such file, or it has no columns name and group.
    """
    path = str(pathlib.Path(data_dir) / "splits.csv")
    try:
        return _read_column(path, "group")
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            "--data_dir must hold the splits.csv that pipeline.main wrote "
            f"({error!r}). Received: --data_dir={data_dir}"
        ) from error


def _read_column(path: str, column: str) -> dict[str, str]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["name"]: row[column] for row in csv.DictReader(file)}


def _check_names(
    split_of_name: Mapping[str, str], names: Iterable[str], path: str
) -> None:
    missing = sorted(set(names) - set(split_of_name))
    unknown = sorted(set(split_of_name) - set(names))
    if missing or unknown or not set(split_of_name.values()) <= set(SPLITS):
        raise ValueError(
            "--splits_from must name exactly the usable images, each with one of "
            f"{', '.join(SPLITS)}. Received: --splits_from={path}, which lacks "
            f"{len(missing)} {missing[:1]} and has {len(unknown)} too many "
            f"{unknown[:1]}"
        )


def parse_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Checks the shares of train, validation and test.

    Raises:
      ValueError: they are not three positive numbers that add up to 1.
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
    train, validation, test = fractions
    return train, validation, test


def split_of(group_key: str, *, fractions: Sequence[float], seed: int) -> str:
    """Returns the split of one group, which depends only on the arguments.

    Adding images therefore does not move other groups, and neither the order of the
    files nor the machine matters. In return, the shares are met only on average.
    """
    position = _unit_interval_hash(group_key, seed)
    if position < fractions[0]:
        return "train"
    return "validation" if position < fractions[0] + fractions[1] else "test"


def split_in_fold(group_key: str, *, fold: int, num_folds: int, seed: int) -> str:
    """Returns the split of one group in one of num_folds folds.

    Fold k uses the k-th part of the groups for the test, the next part for validation
    and the others for training. So each image is in the test split of one fold.
    """
    part = int(_unit_interval_hash(group_key, seed) * num_folds)
    return {fold: "test", (fold + 1) % num_folds: "validation"}.get(part, "train")


def fold_of(group_key: str, *, num_folds: int, seed: int) -> int:
    """Returns the fold that holds a group out.

    The hash is another one than that of split_of, whose splits are ranges of its value.
    """
    return int(_unit_interval_hash(group_key, f"folds {seed}") * num_folds)


def _unit_interval_hash(group_key: str, seed: int | str) -> float:
    """Returns a number in [0, 1), uniform over the keys of groups."""
    digest = hashlib.sha256(f"{seed}:{group_key}".encode()).digest()
    # 53 bits, the precision of a float; 64 bits could be rounded up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def missing_classes(
    labels: Mapping[str, str], splits: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Returns every (split, label) without an image.

    labels: name -> label. splits: name -> split.
    """
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
    """Returns the next seed that puts every class into every split.

    Returns None if none of the next 199 seeds does.
    """
    for candidate in range(seed + 1, seed + 200):
        candidate_splits = {
            name: split_of(group, fractions=fractions, seed=candidate)
            for name, group in groups.items()
        }
        if not missing_classes(labels, candidate_splits):
            return candidate
    return None
