"""Applies corrections to listings, and prepares data with them."""

import csv
import hashlib
import json
import shutil

import fakes
import pytest

from pipeline import prepare
from pipeline.prepare import Rules
from pipeline.sources.corrections import apply_corrections, read_corrections
from pipeline.sources.images import Decision, Listing, SourceImage
from pipeline.sources.listing import list_images


def _write(folder, *lines, header="name,action,label"):
    path = folder / "corrections.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def _list(*names):
    return Listing([SourceImage(name, name.split("/")[0], bytes) for name in names])


def _apply(folder, listing, *lines):
    return apply_corrections(listing, read_corrections(_write(folder, *lines)))


def test_photographs_are_relabelled_kept_and_dropped(tmp_path):
    listing = _list("a/1", "a/2", "b/1", "b/2")
    lines = ("b/1,drop,", "a/1,relabel,b", "a/2,keep,a")
    corrected = _apply(tmp_path, listing, *lines)
    assert [(i.name, i.label, i.source_label) for i in corrected.images] == [
        ("a/1", "b", "a"),
        ("a/2", "a", None),
        ("b/2", "b", None),
    ]
    assert corrected.corrections.decisions == (
        Decision("a/1", "relabel", "a", "b"),
        Decision("a/2", "keep", "a", "a"),
        Decision("b/1", "drop", "b", ""),
    )
    content = (tmp_path / "corrections.csv").read_bytes()
    assert corrected.corrections.sha256 == hashlib.sha256(content).hexdigest()
    assert [image.label for image in listing.images] == ["a", "a", "b", "b"]


def test_what_counts_is_the_label_afterwards(tmp_path):
    # After a second check of data that were corrected before, a person can keep a
    # label that the source does not have.
    corrected = _apply(tmp_path, _list("a/1", "a/2", "b/1"), "a/1,keep,b")
    assert corrected.corrections.decisions == (Decision("a/1", "relabel", "a", "b"),)
    assert corrected.images[0].label == "b"


def test_files_of_spreadsheets_are_read(tmp_path):
    path = tmp_path / "corrections.csv"
    rows = ['"b",\'=a/1,relabel,', 'b,"a/""2"", x",keep,more', "b,a/3,relabel"]
    header = "label,name,action,comment\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + (header + "\r\n".join(rows)).encode())
    assert read_corrections(str(path)).label_of == {
        "=a/1": "b",
        'a/"2", x': "b",
        "a/3": "b",
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a/1,relabel,b", "a/1,drop,"], "lines 2 and 3 .* differently on 'a/1'"),
        (["a/1,relabel,b", "a/1,keep,a"], "lines 2 and 3 .* differently on 'a/1'"),
        (["a/1,rename,b"], "line 2 .*action='rename'"),
        (["a/1,relabel,"], "line 2 .*label=''"),
        ([",drop,"], "line 2 .*name=''"),
        ([], "name,action,label and no photograph"),
    ],
)
def test_a_bad_row_is_an_error_of_one_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message) as error:
        read_corrections(_write(tmp_path, *lines))
    assert "\n" not in str(error.value)


def test_equal_rows_are_one_decision(tmp_path):
    corrections = read_corrections(_write(tmp_path, *["a/1,relabel,b"] * 2))
    assert corrections.label_of == {"a/1": "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing in it and no photograph"),
        (b"name,label\na/1,b\n", "the columns name,label"),
        (b"name,action,label\na/\xff,drop,\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_another_file_is_an_error_of_one_line(tmp_path, content, message):
    path = tmp_path / "corrections.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_corrections(str(path))
    assert f"--corrections={path}" in str(error.value)


def test_unknown_names_and_labels_are_named_and_nothing_is_applied(tmp_path):
    lines = [f"a/x{index:02d},drop," for index in range(60)]
    with pytest.raises(ValueError, match="unknown names") as error:
        _apply(tmp_path, _list("a/1", "b/1"), *lines, "a/1,relabel,c")
    listed = "'a/x00', 'a/x01', 'a/x02', 'a/x03', 'a/x04' and 55 more"
    assert f"the unknown names {listed} and with the unknown labels 'c'." in str(
        error.value
    )


def test_two_classes_must_be_left(tmp_path):
    with pytest.raises(ValueError, match=r"after which the classes are \['a'\]"):
        _apply(tmp_path, _list("a/1", "b/1"), "b/1,relabel,a")


@pytest.mark.parametrize("kind", ["folder", "zip", "csv"])
def test_the_names_are_those_of_every_kind_of_source(tmp_path, kind):
    folder = fakes.write_folder(tmp_path / "photos", per_class=2)
    source = str(folder)
    if kind == "zip":
        source = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    elif kind == "csv":
        names = [f"{label}/0{i}.jpg" for label in fakes.CLASSES for i in range(2)]
        rows = [f"photos/{name},{name.split('/')[0]}" for name in names]
        (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
        source = f"csv:{tmp_path / 'list.csv'}"
    listing = list_images(source, seed=1, work_dir=tmp_path)
    name = listing.images[0].name
    assert name.endswith("circle/00.jpg")
    corrected = _apply(tmp_path, listing, f"{name},relabel,square")
    assert corrected.images[0].label == "square"


@pytest.fixture(scope="module")
def corrected(photographs, tmp_path_factory):
    """Prepared data with two relabelled, one kept and one dropped photograph."""
    base = tmp_path_factory.mktemp("corrected")
    lines = [
        *("circle/03.jpg,relabel,square", "stripe/05.jpg,relabel,circle"),
        *("square/01.jpg,keep,square", "stripe/07.jpg,drop,"),
    ]
    path = _write(base, *lines)
    prepare.prepare(str(photographs), str(base / "data"), rules=Rules(corrections=path))
    return base


def _read_rows(data_dir):
    with open(f"{data_dir}/splits.csv", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_a_relabelled_photograph_and_the_others_stay_in_their_splits(
    corrected, data_dir
):
    before, after = _read_rows(data_dir), _read_rows(corrected / "data")
    assert set(before) - set(after) == {"stripe/07.jpg"}
    changed = {
        name: row["label"]
        for name, row in after.items()
        if row["label"] != before[name]["label"]
    }
    assert changed == {"circle/03.jpg": "square", "stripe/05.jpg": "circle"}
    moved = [n for n, row in after.items() if row["split"] != before[n]["split"]]
    # The dropped photograph moves at most two others of its own class.
    assert len(moved) <= 2
    assert all(name.startswith("stripe/") for name in moved)
    assert before["circle/03.jpg"]["split"] == after["circle/03.jpg"]["split"]


def test_the_audit_records_the_corrections(corrected):
    path = corrected / "corrections.csv"
    audit = json.loads((corrected / "data" / "audit.json").read_text())
    recorded = audit["corrections"]
    assert recorded["file"] == audit["settings"]["corrections"] == str(path)
    assert recorded["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    counts = {name: recorded[name] for name in ("relabelled", "kept", "dropped")}
    assert counts == {"relabelled": 2, "kept": 1, "dropped": 1}
    assert recorded["decisions"][0] == {
        "name": "circle/03.jpg",
        "action": "relabel",
        "source_label": "circle",
        "label": "square",
    }
    assert audit["images"] == 98
    assert audit["images_per_class"] == {"circle": 33, "square": 34, "stripe": 31}
    page = (corrected / "data" / "audit.html").read_text()
    assert "2 relabelled, 1 kept,\n1 dropped by" in page


def test_a_correction_can_resolve_a_picture_under_two_classes(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=8)
    shutil.copy(source / "circle" / "01.jpg", source / "square" / "twin.jpg")
    rules = Rules(corrections=_write(tmp_path, "square/twin.jpg,relabel,circle"))
    prepare.prepare(str(source), str(tmp_path / "data"), rules=rules)
    audit = json.loads((tmp_path / "data" / "audit.json").read_text())
    assert audit["label_conflicts"] == []
    assert audit["copies"][0]["names"] == ["circle/01.jpg", "square/twin.jpg"]


def test_after_a_mistake_nothing_is_written(tmp_path, photographs):
    path = _write(tmp_path, "circle/none.jpg,drop,")
    with pytest.raises(ValueError, match=r"unknown names 'circle/none\.jpg'"):
        prepare.prepare(
            str(photographs), str(tmp_path / "data"), rules=Rules(corrections=path)
        )
    assert [each.name for each in tmp_path.iterdir()] == ["corrections.csv"]
