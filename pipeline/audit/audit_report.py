"""Prints an audit: counts, the first names, and the images of each class and split."""

from collections.abc import Mapping

from pipeline.audit.audit_json import count_findings
from pipeline.audit.decide import Audit
from pipeline.sources.corrections import count_actions
from pipeline.sources.images import SPLITS, Listing

_MAX_LINES = 10


def print_report(listing: Listing, audit: Audit, *, full_report: str) -> None:
    """Prints the counts of all findings, and the names of the first ones.

    full_report: where the user can read the findings that are not printed.
    """
    for note in listing.notes:
        print(note)
    if listing.corrections is not None:
        counts = count_actions(listing.corrections.decisions)
        listed = ", ".join(f"{count} {action}" for action, count in counts.items())
        print(f"corrections of {listing.corrections.file}: {listed}")
    print(f"{len(listing.images)} images, {len(audit.usable)} to use")
    for kind, count in count_findings(audit).items():
        print(f"{count:>6} {kind}")
    lines = [
        f"left out {report.image.name}: {report.problem}" for report in audit.rejected
    ]
    for names in audit.conflicts:
        lines.append(f"several classes: {', '.join(names)}")
    for names in audit.copies:
        lines.append(f"kept {names[0]}, left out its copies {', '.join(names[1:])}")
    for names in audit.near_duplicates:
        lines.append(f"kept in one split: {', '.join(names)}")
    for line in lines[:_MAX_LINES]:
        print("  " + line)
    if len(lines) > _MAX_LINES:
        print(f"  ... {len(lines) - _MAX_LINES} more, all in {full_report}")


def print_counts(classes: Mapping[str, Mapping[str, int]]) -> None:
    """Prints class -> split -> number of images as a table."""
    width = max(len("class"), *(len(label) for label in classes))
    print(f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    for label, by_split in sorted(classes.items()):
        print(f"{label:<{width}}" + "".join(f"{n:>12}" for n in by_split.values()))
