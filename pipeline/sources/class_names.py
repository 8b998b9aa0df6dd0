"""Compares the names of classes as a person sees them."""

import dataclasses
import unicodedata
from collections.abc import Sequence

from pipeline.sources.images import Listing
from pipeline.system import texts


def unite_forms(listing: Listing) -> Listing:
    """Writes each class in the Unicode form NFC.

    macOS writes "é" as two characters in names of files, other systems as one. A class
    of which some images are written otherwise would be two, with equal names.
    """
    labels = {image.label for image in listing.images}
    form_of = {label: unicodedata.normalize("NFC", label) for label in labels}
    united = sorted(
        form for form in set(form_of.values()) if list(form_of.values()).count(form) > 1
    )
    if all(label == form for label, form in form_of.items()):
        return listing
    images = [
        dataclasses.replace(image, label=form_of[image.label])
        for image in listing.images
    ]
    notes = listing.notes
    if united:
        names = texts.list_some([repr(name) for name in united])
        notes = (*notes, f"written in two forms of Unicode, and one class: {names}")
    return dataclasses.replace(listing, images=images, notes=notes)


def find_look_alikes(labels: Sequence[str]) -> list[str]:
    """Returns a note on each class whose name looks nearly like that of another one.

    It is no error: classes may be the letters A and a.
    """
    by_look: dict[str, list[str]] = {}
    for label in labels:
        by_look.setdefault(_fold(label), []).append(label)
    notes = []
    for twins in by_look.values():
        if len(twins) > 1:
            are_cases = len({label.casefold() for label in twins}) == 1
            what = "upper and lower case" if are_cases else "signs that hardly show"
            shown = " and ".join(map(ascii if not are_cases else repr, twins))
            notes.append(
                f"the classes {shown} differ in {what} only; if they are one class, "
                "put their images into one folder"
            )
    return notes


def _fold(label: str) -> str:
    """Returns a name without case, width, accents of form, blanks and hidden signs."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(
        sign
        for sign in folded
        if unicodedata.category(sign) not in ("Cf", "Zs", "Cc", "Mn")
    )
