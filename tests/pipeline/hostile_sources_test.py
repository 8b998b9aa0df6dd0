"""Bad input stops nothing, is not opened, and reaches no page, table or terminal."""

import csv
import html
import json
import os
import re
import tracemalloc

import fakes
import pytest
from fakes import image_files
from PIL import Image

from pipeline import prepare
from pipeline.inspection.image_report import inspect_image
from pipeline.prepare import Rules
from pipeline.sources.images import SourceImage
from pipeline.sources.listing import list_images
from pipeline.splits import splits_csv
from pipeline.splits.assign import SplitPlan

ESCAPE = "\x1b]0;owned\x07\x1b[2J.jpg"
NAMES = (
    "<script>alert(1)<!--.jpg",
    "a\"onerror='alert(1)'.jpg",
    "{{ 7*7 }}.jpg",
    ESCAPE,
    "new\nline.jpg",
    "carriage\rreturn.jpg",
    "gpj.\u202etxt.jpg",
    "comma,semi;tab\t.jpg",
    "x" * 240 + ".jpg",
    "-rf.jpg",
    "%s%n.jpg",
    "$(reboot).jpg",
)
LABEL = "=cmd|' <b>\x1b[31m"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A source whose names are made to do harm, prepared; what was printed."""
    base = tmp_path_factory.mktemp("hostile")
    folder = fakes.write_folder(base / "photos", per_class=12)
    (folder / "circle").rename(folder / LABEL)
    for index, name in enumerate(NAMES):
        fakes.draw("square", 100 + index).save(folder / "square" / "image.jpg")
        (folder / "square" / "image.jpg").rename(folder / "square" / name)
    for name in NAMES[:6]:
        (folder / "stripe" / f"bad {name}").write_bytes(b"no image")
        (folder / "stripe" / f"{name}.mov").write_bytes(b"film")
    os.mkfifo(folder / "stripe" / f"pipe {ESCAPE}")
    (folder / "stripe" / "loop").symlink_to(folder / "stripe")
    (folder / "around").symlink_to(base)
    (base / "outside.jpg").write_bytes(image_files.photograph())
    (folder / "stripe" / "link.jpg").symlink_to(base / "outside.jpg")
    before = {path.name for path in base.iterdir()}
    prepare.prepare(str(folder), str(base / "data"))
    assert {path.name for path in base.iterdir()} == before | {"data"}
    return base


def test_every_usable_image_is_used_under_its_name(hostile):
    with open(hostile / "data" / "splits.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert not any(
        value.startswith(("=", "+", "-", "@")) for row in rows for value in row
    )
    listed = splits_csv.read_splits(str(hostile / "data" / "splits.csv"))
    assert {f"square/{name}" for name in NAMES} <= set(listed.of_name)
    assert f"{LABEL}/00.jpg" in listed.of_name
    # A link to a file is followed; the file outside is not touched.
    assert "stripe/link.jpg" in listed.of_name
    rejected = json.loads((hostile / "data" / "audit.json").read_text())["rejected"]
    assert {entry["name"] for entry in rejected} == {
        f"stripe/bad {name}" for name in NAMES[:6]
    }


def test_the_splits_of_such_names_are_kept(hostile, tmp_path):
    plan = SplitPlan(
        seed=9, splits_from=str(hostile / "data" / "splits.csv"), allow_new=False
    )
    prepare.prepare(str(hostile / "photos"), str(tmp_path / "again"), plan=plan)
    first, again = (
        splits_csv.read_splits(str(folder / "splits.csv")).of_name
        for folder in (hostile / "data", tmp_path / "again")
    )
    assert first == again


def test_no_name_is_markup_or_acts_on_a_terminal(hostile, tmp_path, capsys):
    prepare.audit_only(
        str(hostile / "photos"), str(tmp_path), seed=1, rules=Rules(), strict=False
    )
    printed = capsys.readouterr()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", printed.out)
    assert r"\x1b]0;owned\x07" in printed.out
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<script") == 1  # The page's own.
    assert "<script>alert" not in page
    assert " <b>" not in page
    assert "<!--" not in page
    assert "&lt;script&gt;alert(1)&lt;!--.jpg" in page
    assert "{{ 7*7 }}.jpg" in html.unescape(page)
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", page)


def test_the_memory_does_not_grow_with_the_set(tmp_path):
    """What is kept of an image is its report, not its bytes or its pixels."""
    content = image_files.encode("JPEG", size=(2_000, 1_000), quality=100)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.jpg").write_bytes(content)
    for index in range(1, 60):
        os.link(tmp_path / "a" / "0.jpg", tmp_path / "a" / f"{index}.jpg")
    (tmp_path / "b").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "b" / "0.jpg")
    images = list_images(str(tmp_path), seed=1, work_dir=tmp_path).images
    reports = [inspect_image(images[0], min_side_px=16)]
    tracemalloc.start()
    try:
        reports += [inspect_image(image, min_side_px=16) for image in images]
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reports) == 62
    assert kept_bytes < 62 * 5_000
    assert kept_bytes < len(content) * 5


@pytest.mark.parametrize("kind", sorted(image_files.BAD_IMAGES))
def test_each_bad_file_is_one_finding(kind):
    image = SourceImage("a/x", "a", lambda: image_files.BAD_IMAGES[kind])
    report = inspect_image(image, min_side_px=16)
    if kind == "TIFF":
        assert report.problem is None
    else:
        assert report.problem
        assert "\n" not in report.problem
