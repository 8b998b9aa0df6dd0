"""Checks that every class of a source has an image that can be used."""

import collections
from collections.abc import Mapping

from pipeline.audit.decide import Audit
from pipeline.sources.images import Listing
from pipeline.system import texts

_EXAMPLES = 3


def check_every_class(listing: Listing, audit: Audit) -> None:
    """Checks that every class has an image that can be used.

    Raises:
      ValueError: a class has none; the message says why.
    """
    usable_classes = {report.image.label for report in audit.usable}
    unusable = sorted({image.label for image in listing.images} - usable_classes)
    if not unusable:
        return
    names = [image.name for image in listing.images if image.label == unusable[0]]
    reason_of = _find_reasons(listing, audit)
    names_by_reason = collections.defaultdict(list)
    for name in names:
        names_by_reason[reason_of[name]].append(name)
    reasons = texts.list_some(
        [
            f"{reason}: {len(alike)} ({texts.list_some(alike, limit=_EXAMPLES)})"
            for reason, alike in names_by_reason.items()
        ]
    )
    others = texts.list_some([f"'{label}'" for label in unusable[1:]])
    remedy = "Add images or remove the class"
    if any(name in names for conflict in audit.conflicts for name in conflict):
        remedy = "Remove the wrong copies, or keep all of them with --conflicts=keep"
    raise ValueError(
        f"Class '{unusable[0]}' has no image that can be used. Received: {reasons}. "
        + (f"These classes have none either: {others}. " if others else "")
        + f"{remedy}."
    )


def _find_reasons(listing: Listing, audit: Audit) -> Mapping[str, str]:
    """Returns name -> why an image is not used, for those that are not."""
    label_of = {image.name: image.label for image in listing.images}
    reason_of = {report.image.name: str(report.problem) for report in audit.rejected}
    for conflict in audit.conflicts:
        labels = sorted({label_of[name] for name in conflict})
        for name in conflict:
            others = [f"'{label}'" for label in labels if label != label_of[name]]
            reason_of[name] = f"the same picture is under {texts.list_some(others)}"
    return reason_of
