"""Tests of what is the same for all kinds of sources."""

import fakes

from pipeline.sources.listing import list_images


def test_classes_that_differ_in_case_only_are_named(tmp_path):
    photographs = tmp_path / "photographs"
    for label in ("Rose", "daisy", "rose"):
        (photographs / label).mkdir(parents=True)
        (photographs / label / "1.jpg").write_bytes(fakes.colour_jpeg("red"))
    listing = list_images(str(photographs), seed=1, work_dir=tmp_path)
    assert len(listing.images) == 3
    (note,) = listing.notes
    assert note.startswith("the classes 'Rose' and 'rose' differ in upper and lower")
