"""Finds the classes that a split lacks, describes them and leaves them out."""

import dataclasses
from collections.abc import Mapping, Sequence

from pipeline.audit.decide import Audit
from pipeline.sources.images import SPLITS
from pipeline.system import texts


def find_missing_classes(
    audit: Audit, splits_of_folds: Sequence[Mapping[str, str]]
) -> dict[str, list[str]]:
    """Returns label -> splits without an image of it, in one fold or more."""
    missing: dict[str, list[str]] = {}
    present = {
        (report.image.label, fold, splits[report.image.name])
        for fold, splits in enumerate(splits_of_folds)
        for report in audit.usable
    }
    folds = range(len(splits_of_folds))
    for label in sorted({report.image.label for report in audit.usable}):
        absent = [
            split
            for split in SPLITS
            if any((label, fold, split) not in present for fold in folds)
        ]
        if absent:
            missing[label] = absent
    return missing


def describe_missing_classes(
    audit: Audit, missing: Mapping[str, Sequence[str]], *, num_parts: int
) -> str:
    """Returns an error message.

    missing: see find_missing_classes. num_parts: number of folds, or of splits.
    """
    problems = [
        f"'{label}' has none in {' and '.join(splits)} ({_count(audit, label)})"
        for label, splits in missing.items()
    ]
    listed = texts.list_some(problems)
    return (
        "Every split needs images of every class, so a class needs at least "
        f"{num_parts} groups of images; copies and near duplicates form one group. "
        f"Received: {listed}. Add images, or leave such classes out with "
        "pipeline.main --small_classes=drop."
    )


def _count(audit: Audit, label: str) -> str:
    names = [r.image.name for r in audit.usable if r.image.label == label]
    groups = {audit.group_of[name] for name in names}
    return f"{len(names)} images in {len(groups)} groups"


def drop_classes(audit: Audit, labels: set[str]) -> tuple[Audit, str]:
    """Returns the audit without some classes, and a note that names them.

    Raises:
      ValueError: fewer than two classes are left.
    """
    dropped = [f"'{label}' ({_count(audit, label)})" for label in sorted(labels)]
    listed = texts.list_some(dropped)
    usable = [report for report in audit.usable if report.image.label not in labels]
    if len({report.image.label for report in usable}) < 2:
        raise ValueError(
            "A classifier needs at least two classes with enough images. Received: "
            f"--small_classes=drop, which leaves out {listed}. Add images."
        )
    names = {report.image.name for report in usable}
    group_of = {name: g for name, g in audit.group_of.items() if name in names}
    return (
        dataclasses.replace(audit, usable=usable, group_of=group_of),
        f"left out, too few images for every split: {listed}",
    )
