"""Checks that every class of a source has an image that can be used."""

from pipeline.audit.decide import Audit
from pipeline.sources.images import Listing
from pipeline.system import texts


def check_every_class(listing: Listing, audit: Audit) -> None:
    """Checks that every class has an image that can be used.

    Raises:
      ValueError: a class has none; the message says why.
    """
    usable_classes = {report.image.label for report in audit.usable}
    problem_of = {report.image.name: report.problem for report in audit.rejected}
    for label in sorted({image.label for image in listing.images} - usable_classes):
        reasons = texts.list_some(
            [
                f"{image.name}: "
                f"{problem_of.get(image.name, 'the same picture is in another class')}"
                for image in listing.images
                if image.label == label
            ]
        )
        raise ValueError(
            f"Class '{label}' has no image that can be used. Received: {reasons}."
            " Add images or remove the class."
        )
