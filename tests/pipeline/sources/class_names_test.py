import unicodedata

from pipeline.sources import class_names
from pipeline.sources.images import Listing, SourceImage

COMPOSED = unicodedata.normalize("NFC", "pâquerette")
DECOMPOSED = unicodedata.normalize("NFD", "pâquerette")


def _listing(*labels: str) -> Listing:
    images = [SourceImage(f"{i}.jpg", label, bytes) for i, label in enumerate(labels)]
    return Listing(images, ("a note",))


def test_a_class_in_two_forms_of_unicode_is_one():
    assert COMPOSED != DECOMPOSED
    listing = class_names.unite_forms(_listing(COMPOSED, DECOMPOSED, "rose"))
    assert [image.label for image in listing.images] == [COMPOSED, COMPOSED, "rose"]
    assert listing.notes == (
        "a note",
        f"written in two forms of Unicode, and one class: {COMPOSED!r}",
    )


def test_the_form_of_a_single_class_is_changed_without_a_word():
    listing = class_names.unite_forms(_listing(DECOMPOSED, "rose"))
    assert [image.label for image in listing.images] == [COMPOSED, "rose"]
    assert listing.notes == ("a note",)
    plain = _listing("daisy", "rose")
    assert class_names.unite_forms(plain) is plain


def test_names_that_look_alike_are_said():
    labels = ["A", "a", "b", "rose", "rose\u200b", "fleur de lys", "fleurdelys"]
    assert class_names.find_look_alikes(labels) == [
        "the classes 'A' and 'a' differ in upper and lower case only; if they are one "
        "class, put their images into one folder",
        "the classes 'rose' and 'rose\\u200b' differ in signs that hardly show only; "
        "if they are one class, put their images into one folder",
        "the classes 'fleur de lys' and 'fleurdelys' differ in signs that hardly show "
        "only; if they are one class, put their images into one folder",
    ]
    assert class_names.find_look_alikes(["1", "2", "\N{ROSE}", "\N{TULIP}"]) == []
