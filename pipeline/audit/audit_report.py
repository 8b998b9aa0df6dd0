"""Prints an audit: each kind of finding in one line, and the images of each class."""

import itertools
from collections.abc import Mapping, Sequence

from pipeline.audit.audit_json import count_findings
from pipeline.audit.decide import Audit
from pipeline.audit.findings import Finding, list_findings
from pipeline.sources.corrections import count_actions
from pipeline.sources.images import SPLITS, Listing
from pipeline.system import texts

_EXAMPLES = 3
_MAX_KINDS = 20


def print_report(
    listing: Listing, audit: Audit, *, conflicts: str, full_report: str
) -> None:
    """Prints the counts of all findings, and for each kind its count and examples.

    conflicts: see list_findings.
    full_report: the file or files that hold all findings, as the user reads it.
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
    lines = describe_findings(list_findings(audit, conflicts=conflicts))
    for line in lines[:_MAX_KINDS]:
        print(f"  {texts.escape_controls(line)}")
    if len(lines) > _MAX_KINDS:
        print(f"  and {len(lines) - _MAX_KINDS} more kinds")
    if lines:
        print(f"all findings: {full_report}")


def describe_findings(findings: Sequence[Finding]) -> list[str]:
    """Returns one line for each kind of finding, with its count and three examples."""
    lines = []
    for kind, of_kind in itertools.groupby(findings, key=lambda finding: finding.kind):
        shown = [_describe(finding) for finding in of_kind]
        lines.append(
            f"{kind}: {len(shown)} ({texts.list_some(shown, limit=_EXAMPLES)})"
        )
    return lines


def _describe(finding: Finding) -> str:
    names, more = finding.names[:_EXAMPLES], len(finding.names) - _EXAMPLES
    line = " + ".join(names) + (f" + {more} more" if more > 0 else "")
    return f"{line}: {finding.detail}" if finding.detail else line


def print_counts(classes: Mapping[str, Mapping[str, int]]) -> None:
    """Prints class -> split -> number of images as a table."""
    shown = {label: texts.escape_controls(label) for label in classes}
    width = max(len("class"), *map(len, shown.values()))
    print(f"{'class':<{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    for label, by_split in sorted(classes.items()):
        counts = "".join(f"{n:>12}" for n in by_split.values())
        print(f"{shown[label]:<{width}}{counts}")
