"""Lists all findings of an audit, for the terminal, audit.html and audit.csv."""

import dataclasses

from pipeline.audit.decide import Audit
from pipeline.audit.doubts import find_doubts

CONFLICT_ACTIONS = {"drop": "all copies left out", "keep": "all copies used"}

# Reasons that differ only by their size are one kind.
_KINDS_WITH_SIZES = ("too small", "too large")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One finding.

    kind: such as "left out, not an image"; equal for all findings that are alike.
    names: the images of the finding.
    detail: what is special about these images; may be empty.
    action: what was done with them.
    """

    kind: str
    names: tuple[str, ...]
    detail: str
    action: str


def list_findings(audit: Audit, *, conflicts: str) -> list[Finding]:
    """Returns all findings, grouped by their kind.

    conflicts: the rule for a picture that is under several classes: drop, keep or fail.
    """
    conflict_action = CONFLICT_ACTIONS.get(conflicts, "refused")
    used = [
        Finding(f"used, {oddity}", (report.image.name,), "", "used")
        for report in audit.usable
        for oddity in report.oddities
    ]
    doubts = [
        Finding(f"used, but {doubt}", (name,), measured, "used")
        for name, doubts in find_doubts(audit.usable).items()
        for doubt, measured in doubts.items()
    ]
    several = set(map(tuple, find_near_duplicates_across_classes(audit)))
    findings = [
        *_list_rejected(audit),
        *(
            Finding("under several classes", tuple(names), "", conflict_action)
            for names in audit.conflicts
        ),
        *(
            Finding("copies left out", (name,), f"kept {names[0]}", "left out")
            for names in audit.copies
            for name in names[1:]
        ),
        *(
            Finding(
                "near duplicates under several classes"
                if tuple(names) in several
                else "near duplicates, kept in one split",
                tuple(names),
                "",
                "kept in one split",
            )
            for names in audit.near_duplicates
        ),
        *used,
        *doubts,
    ]
    order = {finding.kind: at for at, finding in reversed(list(enumerate(findings)))}
    return sorted(findings, key=lambda finding: order[finding.kind])


def find_near_duplicates_across_classes(audit: Audit) -> list[list[str]]:
    """Returns the groups of near duplicates whose images have several classes.

    The images of such a group are less alike than those in audit.conflicts. One of them
    may have the wrong class, or they show two classes in one place.
    """
    label_of = {report.image.name: report.image.label for report in audit.readable}
    conflicts = [set(names) for names in audit.conflicts]
    return [
        names
        for names in audit.near_duplicates
        if len({label_of[name] for name in names}) > 1
        and not any(conflict.issuperset(names) for conflict in conflicts)
    ]


def _list_rejected(audit: Audit) -> list[Finding]:
    findings = []
    for report in audit.rejected:
        reason, detail = str(report.problem), ""
        kind, _, size = reason.partition(": ")
        if kind in _KINDS_WITH_SIZES:
            reason, detail = kind, size.partition(" (")[0]
        kind = f"left out, {reason}"
        findings.append(Finding(kind, (report.image.name,), detail, "left out"))
    return findings
