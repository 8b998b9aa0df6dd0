"""Builds the content of audit.json."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from pipeline.audit.decide import Audit
from pipeline.audit.doubts import find_doubts
from pipeline.audit.findings import (
    CONFLICT_ACTIONS,
    find_near_duplicates_across_classes,
)
from pipeline.inspection.inspect_images import find_sample_bits
from pipeline.sources.corrections import count_actions
from pipeline.sources.images import SPLITS, AppliedCorrections, Listing
from pipeline.system import versions

# The number of the format; it must equal DATA_FORMAT in loading/prepared_data.py.
FORMAT = 1


class Rejected(TypedDict):
    """An image that is not used, and why."""

    name: str
    reason: str
    action: str


class NameGroup(TypedDict):
    """Names of images that belong together, and what was done with them."""

    names: list[str]
    action: str


class Odd(TypedDict):
    """An image with unusual properties that is used."""

    name: str
    oddities: list[str]
    action: str


class Doubtful(TypedDict):
    """An image of doubtful quality that is used.

    doubts: key of doubts.MEANINGS -> what was measured.
    """

    name: str
    doubts: dict[str, str]
    action: str


class CorrectionsJson(TypedDict):
    """The corrections that were applied: their file and the decision on each image.

    relabelled, kept, dropped: numbers of images.
    decisions: name, action, source_label and label of each image.
    """

    file: str
    sha256: str
    relabelled: int
    kept: int
    dropped: int
    decisions: list[dict[str, str]]


class AuditJson(TypedDict):
    """The content of audit.json.

    format: number of the format of this file.
    project: version and commit of the project that wrote it.
    settings: the source, the seed and the rules.
    corrections: those of --corrections; None without it.
    findings: kind of finding -> count.
    sample_bits: the bits that 16-bit images use; None without such images.
    classes: class -> split -> images; empty if nothing was split.
    images_per_class: class -> usable images.
    imbalance: images of the largest class per image of the smallest one.
    sizes: width, height (pixels), file_bytes, stored_bytes -> quantile -> value.
    rejected, label_conflicts, copies, near_duplicates, near_duplicates_across_classes,
      odd, doubtful: the findings; see Audit and doubts.find_doubts.
    """

    format: int
    project: dict[str, str | None]
    settings: dict[str, object]
    corrections: CorrectionsJson | None
    notes: list[str]
    images: int
    findings: dict[str, int]
    sample_bits: int | None
    classes: dict[str, dict[str, int]]
    images_per_class: dict[str, int]
    imbalance: float
    sizes: dict[str, dict[str, float]]
    rejected: list[Rejected]
    label_conflicts: list[NameGroup]
    copies: list[NameGroup]
    near_duplicates: list[NameGroup]
    near_duplicates_across_classes: list[NameGroup]
    odd: list[Odd]
    doubtful: list[Doubtful]


def count_findings(audit: Audit) -> dict[str, int]:
    """Returns kind of finding -> count, zeros included."""
    return {
        "images left out": len(audit.rejected),
        "pictures under several classes": len(audit.conflicts),
        "copies left out": sum(len(names) - 1 for names in audit.copies),
        "groups of near duplicates": len(audit.near_duplicates),
        "near duplicates under several classes": len(
            find_near_duplicates_across_classes(audit)
        ),
        "odd images, used": sum(bool(report.oddities) for report in audit.usable),
        "images of doubtful quality, used": len(find_doubts(audit.usable)),
    }


def audit_to_json(
    listing: Listing,
    audit: Audit,
    split_of: Mapping[str, str],
    settings: Mapping[str, object],
) -> AuditJson:
    """Returns the content of audit.json.

    split_of: name -> split; empty if nothing was split.
    settings: source, seed and rules; `conflicts` is one of them.
    """
    counts: dict[str, dict[str, int]] = {}
    for report in audit.usable:
        if split_of:
            by_split = counts.setdefault(report.image.label, dict.fromkeys(SPLITS, 0))
            by_split[split_of[report.image.name]] += 1
    usable_of = collections.Counter(report.image.label for report in audit.usable)
    conflict_action = CONFLICT_ACTIONS.get(str(settings["conflicts"]), "refused")
    return {
        "format": FORMAT,
        "project": versions.project_version(),
        "settings": dict(settings),
        "corrections": _describe_corrections(listing.corrections),
        "notes": list(listing.notes),
        "images": len(listing.images),
        "findings": count_findings(audit),
        "sample_bits": find_sample_bits(audit.usable),
        "classes": counts,
        "images_per_class": dict(sorted(usable_of.items())),
        "imbalance": max(usable_of.values(), default=0)
        / max(1, min(usable_of.values(), default=1)),
        "sizes": {
            name: _quantiles([getattr(report, name) for report in audit.usable])
            for name in ("width", "height", "file_bytes", "stored_bytes")
        },
        "rejected": _describe_rejected(audit),
        "label_conflicts": _describe_groups(audit.conflicts, conflict_action),
        "copies": [
            {"names": names, "action": f"{names[0]} used, the others left out"}
            for names in audit.copies
        ],
        "near_duplicates": _describe_groups(audit.near_duplicates, "kept in one split"),
        "near_duplicates_across_classes": _describe_groups(
            find_near_duplicates_across_classes(audit), "kept in one split"
        ),
        "odd": [
            {
                "name": report.image.name,
                "oddities": list(report.oddities),
                "action": "used",
            }
            for report in audit.usable
            if report.oddities
        ],
        "doubtful": [
            {"name": name, "doubts": doubts, "action": "used"}
            for name, doubts in find_doubts(audit.usable).items()
        ],
    }


def _describe_rejected(audit: Audit) -> list[Rejected]:
    return [
        {
            "name": report.image.name,
            "reason": str(report.problem),
            "action": "left out",
        }
        for report in audit.rejected
    ]


def _describe_groups(groups: Sequence[list[str]], action: str) -> list[NameGroup]:
    return [{"names": names, "action": action} for names in groups]


def _describe_corrections(
    corrections: AppliedCorrections | None,
) -> CorrectionsJson | None:
    if corrections is None:
        return None
    counts = count_actions(corrections.decisions)
    return {
        "file": corrections.file,
        "sha256": corrections.sha256,
        "relabelled": counts["relabelled"],
        "kept": counts["kept"],
        "dropped": counts["dropped"],
        "decisions": [dataclasses.asdict(d) for d in corrections.decisions],
    }


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    names = ("min", "5%", "median", "95%", "max", "sum")
    points = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]).tolist()
    return dict(zip(names, [*points, float(sum(values))], strict=True))
