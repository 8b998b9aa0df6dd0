"""Assigns a split to every usable image of an audit."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from pipeline.audit.decide import Audit
from pipeline.sources.images import SPLITS
from pipeline.splits import shares, small_classes, splits_csv
from pipeline.splits.splits_csv import ListedSplits
from pipeline.system import texts


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """How the groups of images are split.

    fractions: shares of train, validation and test, for a single split.
    seed: decides, with the key of a group, the split of the group.
    num_folds: number of folds; 0 for a single split.
    splits_from: path of a splits.csv whose images keep their splits, if any.
    allow_new: the source may have images that splits_from does not list, and lack some
      that it does.
    resplit: ignore the splits that the source assigns.
    small_classes: "fail" or "drop", for classes that a split lacks.
    """

    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 1
    num_folds: int = 0
    splits_from: str | None = None
    allow_new: bool = True
    resplit: bool = False
    small_classes: str = "fail"

    def __post_init__(self):
        """Checks the shares and the number of folds.

        Raises:
          ValueError: they cannot be used.
        """
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            received = ",".join(str(fraction) for fraction in self.fractions)
            raise ValueError(
                "--splits must be three positive shares (train,validation,test) that "
                f"add up to 1. Received: --splits={received}"
            )
        if self.num_folds and self.num_folds < len(SPLITS):
            raise ValueError(
                "--folds must be at least 3: one part for the test, one for validation "
                f"and the others for training. Received: --folds={self.num_folds}"
            )
        if self.num_folds and self.splits_from is not None:
            raise ValueError(
                "--folds and --splits_from exclude each other: use one of them. "
                f"Received: --folds={self.num_folds} --splits_from={self.splits_from}"
            )
        if not self.allow_new and self.splits_from is None:
            raise ValueError(
                "--no_new needs --splits_from. Received: --no_new; add "
                "--splits_from=FILE, or leave out --no_new."
            )


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The splits of the images that are used.

    audit: without the images of classes that are dropped.
    splits_of_folds: for each fold, or for the single split, name -> split.
    notes: sentences for the user.
    """

    audit: Audit
    splits_of_folds: list[dict[str, str]]
    notes: tuple[str, ...]


def assign_splits(audit: Audit, plan: SplitPlan) -> Assignment:
    """Assigns every usable image; near duplicates always get the same split.

    Raises:
      ValueError: a split lacks a class, or splits_from cannot be used.
    """
    known, notes = _find_known_splits(audit, plan)
    if plan.num_folds:
        splits_of_folds = [
            _assign_fold(audit, plan, fold) for fold in range(plan.num_folds)
        ]
    else:
        splits_of_folds = [assign_single_split(audit, plan, known)]
    missing = small_classes.find_missing_classes(audit, splits_of_folds)
    if missing:
        if plan.small_classes == "fail":
            num_parts = plan.num_folds or len(SPLITS)
            raise ValueError(
                small_classes.describe_missing_classes(
                    audit, missing, num_parts=num_parts
                )
            )
        audit, dropped = small_classes.drop_classes(audit, set(missing))
        notes.append(dropped)
        splits_of_folds = [
            {name: splits[name] for name in audit.group_of}
            for splits in splits_of_folds
        ]
    return Assignment(audit, splits_of_folds, tuple(notes))


def _find_known_splits(
    audit: Audit, plan: SplitPlan
) -> tuple[dict[str, str], list[str]]:
    """Returns name -> split of the images that splits_from or the source assigns."""
    if plan.num_folds:
        return {}, []
    known: dict[str, str] = {}
    origin, notes = "the source", []
    if not plan.resplit:
        known = {
            report.image.name: report.image.split
            for report in audit.usable
            if report.image.split is not None
        }
    if plan.splits_from is not None:
        listed = splits_csv.read_splits(plan.splits_from)
        if not plan.allow_new:
            _check_names(listed, audit.group_of, plan.splits_from)
        matched = _match_listed(audit, listed)
        known |= matched
        new = len(audit.group_of) - len(matched)
        origin = f"--splits_from={plan.splits_from}"
        notes = [f"{len(matched)} images keep the splits of {origin}; {new} are new"]
    crossing = [
        names
        for names in _members(audit).values()
        if len({known[name] for name in names if name in known}) > 1
    ]
    if crossing:
        action = "they keep their splits"
        if plan.splits_from is None:
            # They may be trained on, but a test on them would be too optimistic.
            action = "they are all in train"
            for names in crossing:
                known |= dict.fromkeys(names, "train")
        notes.append(
            f"{len(crossing)} groups of near duplicates cross the splits of {origin}, "
            f"for example {texts.list_some(crossing[0], limit=3)}; {action}"
        )
    return known, notes


def _match_listed(audit: Audit, listed: ListedSplits) -> dict[str, str]:
    """Returns name -> split of the images that a file lists, also renamed ones.

    An image also keeps the split of its copies that are left out.
    """
    hash_of = {report.image.name: report.file_hash for report in audit.readable}

    def find_split(name: str) -> str | None:
        return listed.of_name.get(name) or listed.of_hash.get(hash_of[name])

    copies_of = {names[0]: names for names in audit.copies}
    known = {}
    for name in audit.group_of:
        found = (find_split(each) for each in copies_of.get(name, [name]))
        split = next((split for split in found if split is not None), None)
        if split is not None:
            known[name] = split
    return known


def _check_names(listed: ListedSplits, names: Iterable[str], path: str) -> None:
    missing = sorted(set(names) - set(listed.of_name))
    unknown = sorted(set(listed.of_name) - set(names))
    if missing or unknown:
        problems = [
            f"{problem}: {len(names)} ({texts.list_some(names, limit=1)})"
            for problem, names in (
                ("usable images that it does not name", missing),
                ("names that are no usable image", unknown),
            )
            if names
        ]
        raise ValueError(
            "With --no_new, --splits_from must name exactly the usable images. "
            f"Received: --splits_from={path}, with {', and '.join(problems)}. Leave "
            "out --no_new, or correct the file."
        )


def assign_single_split(
    audit: Audit, plan: SplitPlan, known: Mapping[str, str]
) -> dict[str, str]:
    """Returns name -> split; images without a known split are placed by shares.

    All groups of a class are cut, so that the other groups get the parts that they
    would have had alone. If the source has a train split but lacks another one, this is
    cut from train.
    """
    members, splits = _members(audit), list(SPLITS)
    to_cut = list(members)
    absent = [split for split in SPLITS if split not in known.values()]
    is_source_complete = plan.splits_from is None and len(known) == len(audit.group_of)
    if is_source_complete and absent and "train" not in absent:
        splits = ["train", *absent]
        known = {name: split for name, split in known.items() if split != "train"}
        to_cut = [g for g, names in members.items() if not set(names) & set(known)]
    weights = [plan.fractions[SPLITS.index(split)] for split in splits]
    part_of = _cut_classes(
        audit, to_cut, [weight / sum(weights) for weight in weights], plan.seed
    )
    split_of_name: dict[str, str] = {}
    for group, names in members.items():
        listed = [known[name] for name in names if name in known]
        split = listed[0] if listed else splits[part_of[group]]
        split_of_name |= {name: known.get(name, split) for name in names}
    return split_of_name


def _assign_fold(audit: Audit, plan: SplitPlan, fold: int) -> dict[str, str]:
    """Returns name -> split in one fold.

    Fold k uses the k-th part of the groups for the test, the next part for validation
    and the others for training. So each image is in the test split of one fold.
    """
    weights = [1 / plan.num_folds] * plan.num_folds
    part_of = _cut_classes(audit, list(_members(audit)), weights, plan.seed)
    split_of_part = {fold: "test", (fold + 1) % plan.num_folds: "validation"}
    return {
        name: split_of_part.get(part_of[group], "train")
        for name, group in audit.group_of.items()
    }


def _cut_classes(
    audit: Audit, groups: Sequence[str], weights: Sequence[float], seed: int
) -> dict[str, int]:
    """Returns group -> part; the groups of each class are cut by themselves.

    A group with images of several classes belongs to the class of most of them. A label
    that --corrections changed counts as before, so that no image changes its split.
    """
    label_of = {
        report.image.name: report.image.source_label or report.image.label
        for report in audit.usable
    }
    members = _members(audit)
    groups_of: dict[str, list[str]] = collections.defaultdict(list)
    for group in groups:
        counts = collections.Counter(label_of[name] for name in members[group])
        label = min(counts, key=lambda label: (-counts[label], label))
        groups_of[label].append(group)
    part_of: dict[str, int] = {}
    for class_groups in groups_of.values():
        positions = [shares.find_position(group, seed) for group in class_groups]
        parts = shares.cut(positions, weights)
        part_of |= dict(zip(class_groups, parts, strict=True))
    return part_of


def _members(audit: Audit) -> dict[str, list[str]]:
    """Returns group -> names of its images."""
    members: dict[str, list[str]] = collections.defaultdict(list)
    for name, group in audit.group_of.items():
        members[group].append(name)
    return members
