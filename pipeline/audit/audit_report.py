"""Prints an audit: each kind of finding in one line, and the images of each class."""

import collections
from collections.abc import Mapping, Sequence

from pipeline.audit.audit_json import count_findings
from pipeline.audit.decide import Audit
from pipeline.sources.corrections import count_actions
from pipeline.sources.images import SPLITS, Listing
from pipeline.system import texts

_EXAMPLES = 3
_MAX_KINDS = 20
# Reasons with a size in them are one kind, whatever the size is.
_KINDS_WITH_SIZES = ("too small", "too large")


def print_report(listing: Listing, audit: Audit, *, full_report: str) -> None:
    """Prints the counts of all findings, and for each kind its count and examples.

    full_report: where the user can read all findings.
    """
    for note in listing.notes:
        print(texts.escape_controls(note))
    if listing.corrections is not None:
        counts = count_actions(listing.corrections.decisions)
        listed = ", ".join(f"{count} {action}" for action, count in counts.items())
        name = texts.escape_controls(listing.corrections.file)
        print(f"corrections of {name}: {listed}")
    print(f"{len(listing.images)} images, {len(audit.usable)} to use")
    for kind, count in count_findings(audit).items():
        print(f"{count:>6} {kind}")
    lines = describe_findings(audit)
    for line in lines[:_MAX_KINDS]:
        print(f"  {texts.escape_controls(line)}")
    if len(lines) > _MAX_KINDS:
        print(f"  and {len(lines) - _MAX_KINDS} more kinds")
    if lines:
        print(f"all findings: {full_report}")


def describe_findings(audit: Audit) -> list[str]:
    """Returns one line for each kind of finding, with its count and three examples."""
    left_out: dict[str, list[str]] = collections.defaultdict(list)
    for report in audit.rejected:
        reason = str(report.problem)
        kind, _, size = reason.partition(": ")
        if kind in _KINDS_WITH_SIZES:
            left_out[kind].append(f"{report.image.name}: {size.partition(' (')[0]}")
        else:
            left_out[reason].append(report.image.name)
    odd: dict[str, list[str]] = collections.defaultdict(list)
    for report in audit.usable:
        for oddity in report.oddities:
            odd[oddity].append(report.image.name)
    copies = [
        f"{text} (kept {names[0]})" for names in audit.copies for text in names[1:]
    ]
    lines = [_describe(f"left out, {kind}", names) for kind, names in left_out.items()]
    if audit.conflicts:
        groups = [_join(names) for names in audit.conflicts]
        lines.append(_describe("under several classes", groups))
    if copies:
        lines.append(_describe("copies left out", copies))
    if audit.near_duplicates:
        groups = [_join(names) for names in audit.near_duplicates]
        lines.append(_describe("near duplicates, kept in one split", groups))
    return lines + [_describe(f"used, {kind}", names) for kind, names in odd.items()]


def _describe(kind: str, names: Sequence[str]) -> str:
    return f"{kind}: {len(names)} ({texts.list_some(names, limit=_EXAMPLES)})"


def _join(names: Sequence[str]) -> str:
    more = len(names) - _EXAMPLES
    return " + ".join(names[:_EXAMPLES]) + (f" + {more} more" if more > 0 else "")


def print_counts(classes: Mapping[str, Mapping[str, int]]) -> None:
    """Prints class -> split -> number of images as a table."""
    shown = {label: texts.escape_controls(label) for label in classes}
    width = max(len("class"), *map(len, shown.values()))
    print(f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    for label, by_split in sorted(classes.items()):
        counts = "".join(f"{n:>12}" for n in by_split.values())
        print(f"{shown[label]:<{width}}{counts}")
