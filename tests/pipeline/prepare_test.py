import csv
import hashlib
import io
import json
import pathlib
import shutil

import fakes
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from pipeline import prepare
from pipeline.inspection.reencoding import StoredForm
from pipeline.loading import prepared_data
from pipeline.prepare import Rules
from pipeline.splits.assign import SplitPlan


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """A source with one bad file and one duplicate, and what was made of it."""
    base = tmp_path_factory.mktemp("prepare")
    source = fakes.write_folder(base / "photos", per_class=30)
    (source / "circle" / "bad.jpg").write_bytes(b"\xff\xd8 not really")
    (source / "circle" / "twin.jpg").write_bytes(
        (source / "circle" / "03.jpg").read_bytes()
    )
    prepare.prepare(str(source), str(base / "data"), num_shards=2)
    return source, base / "data"


def _read_all(data_dir):
    builder = tfds.builder_from_directory(str(data_dir))
    names = builder.info.features["label"].names
    return {
        split: [
            (
                example["name"].decode(),
                names[example["label"]],
                bytes(example["image"]),
            )
            for example in builder.as_dataset(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            ).as_numpy_iterator()
        ]
        for split in builder.info.splits
    }


def test_tfds_reads_the_original_bytes_of_every_usable_image(prepared):
    source, data_dir = prepared
    examples = [e for split in _read_all(data_dir).values() for e in split]
    assert len(examples) == 90
    for name, label, image_bytes in examples:
        assert image_bytes == (source / name).read_bytes()
        assert name.startswith(f"{label}/")
    assert "circle/bad.jpg" not in {name for name, _, _ in examples}


def test_splits_csv_and_audit_say_what_the_records_hold(prepared):
    source, data_dir = prepared
    in_records = {
        name: (split, label)
        for split, examples in _read_all(data_dir).items()
        for name, label, _ in examples
    }
    with open(data_dir / "splits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["name"]: (r["split"], r["label"]) for r in rows} == in_records
    for row in rows:
        content = (source / row["name"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
    audit = json.loads((data_dir / "audit.json").read_text())
    assert audit["rejected"] == [
        {"name": "circle/bad.jpg", "reason": "not an image", "action": "left out"}
    ]
    assert audit["copies"] == [
        {
            "names": ["circle/03.jpg", "circle/twin.jpg"],
            "action": "circle/03.jpg used, the others left out",
        }
    ]
    assert audit["findings"] == {
        "images left out": 1,
        "pictures under several classes": 0,
        "copies left out": 1,
        "groups of near duplicates": len(audit["near_duplicates"]),
        "near duplicates under several classes": len(
            audit["near_duplicates_across_classes"]
        ),
        "odd images, used": 0,
        "images of doubtful quality, used": 0,
    }
    assert sum(sum(c.values()) for c in audit["classes"].values()) == 90


def test_the_number_of_shards_is_what_was_asked_for(prepared):
    _, data_dir = prepared
    shards = sorted(path.name for path in data_dir.glob("*train.tfrecord*"))
    assert shards == [
        "photographs-train.tfrecord-00000-of-00002",
        "photographs-train.tfrecord-00001-of-00002",
    ]


def test_preparing_again_gives_the_same_files_byte_for_byte(prepared, tmp_path):
    source, data_dir = prepared
    prepare.prepare(str(source), str(tmp_path / "again"), num_shards=2)
    for path in sorted(data_dir.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_fields_of_each_record_are_in_the_order_of_their_names(prepared):
    _, data_dir = prepared
    shards = sorted(str(path) for path in data_dir.glob("*.tfrecord*"))
    records = list(tf.data.TFRecordDataset(shards).as_numpy_iterator())
    assert len(records) == 90
    for record in records:
        places = [record.index(name) for name in (b"image", b"label", b"name")]
        assert places == sorted(places)


def test_an_existing_output_is_kept_unless_overwrite(prepared, tmp_path):
    source, _ = prepared
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep me")
    with pytest.raises(ValueError, match=r"exists already.*--overwrite"):
        prepare.prepare(str(source), str(out))
    assert (out / "precious.txt").read_text() == "keep me"
    prepare.prepare(str(source), str(out), overwrite=True)
    assert not (out / "precious.txt").exists()
    assert sum(len(examples) for examples in _read_all(out).values()) == 90


@pytest.mark.parametrize(
    ("per_class", "arguments", "message"),
    [
        (2, {}, "Every split needs images of every class"),
        (30, {"num_shards": 50}, "--shards must lie between 1 and"),
        (30, {"num_shards": 0}, "Received: --shards=0"),
    ],
)
def test_a_mistake_leaves_nothing_behind(tmp_path, per_class, arguments, message):
    source = fakes.write_folder(tmp_path / "photos", per_class=per_class)
    with pytest.raises(ValueError, match=message):
        prepare.prepare(str(source), str(tmp_path / "out"), **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_class_without_a_usable_image_is_an_error_that_says_why(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=20)
    (source / "broken").mkdir()
    (source / "broken" / "1.jpg").write_text("text")
    with pytest.raises(ValueError, match="Class 'broken' has no image") as error:
        prepare.prepare(str(source), str(tmp_path / "out"))
    assert "not an image: 1 (broken/1.jpg)" in str(error.value)


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    source = fakes.write_folder(tmp_path / "photos", per_class=30)
    monkeypatch.setattr(prepare.files, "write_json", _disk_full)
    with pytest.raises(OSError, match="No space left"):
        prepare.prepare(str(source), str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def _disk_full(*_):
    raise OSError(28, "No space left on device")


def _split_of(data_dir) -> dict[str, str]:
    with open(data_dir / "splits.csv", newline="") as file:
        return {row["name"]: row["split"] for row in csv.DictReader(file)}


def test_adding_and_renaming_photographs_moves_few_others(prepared, tmp_path):
    source, data_dir = prepared
    more = shutil.copytree(source, tmp_path / "more")
    for index in range(30, 40):
        fakes.draw("square", index).save(more / "square" / f"{index}.jpg")
    (more / "circle" / "05.jpg").rename(more / "circle" / "A5.JPG")
    prepare.prepare(str(more), str(tmp_path / "data"))
    before, after = _split_of(data_dir), _split_of(tmp_path / "data")
    assert after.pop("circle/A5.JPG") == before.pop("circle/05.jpg")
    assert len(after) == len(before) + 10
    moved = [name for name in before if after[name] != before[name]]
    assert len(moved) <= 5  # Ten more photographs; each could move two.
    assert all(name.startswith("square/") for name in moved)


def test_splits_from_repeats_a_split_and_refuses_another_source(prepared, tmp_path):
    source, data_dir = prepared
    path = str(data_dir / "splits.csv")
    plan = SplitPlan(seed=7, splits_from=path, allow_new=False)
    prepare.prepare(str(source), str(tmp_path / "same"), plan=plan)
    assert _split_of(tmp_path / "same") == _split_of(data_dir)
    other = fakes.write_folder(tmp_path / "other", per_class=31)
    message = r"that it does not name: 3 \(circle/30\.jpg and 2 more\)"
    with pytest.raises(ValueError, match=message):
        prepare.prepare(str(other), str(tmp_path / "out"), plan=plan)


def test_over_all_folds_each_image_is_tested_on_once(prepared, tmp_path):
    source, data_dir = prepared
    prepare.prepare(str(source), str(tmp_path / "folds"), plan=SplitPlan(num_folds=3))
    made = [_split_of(tmp_path / "folds" / f"fold-{k}") for k in range(3)]
    for name in _split_of(data_dir):
        assert sorted(fold[name] for fold in made) == ["test", "train", "validation"]
    assert len(_read_all(tmp_path / "folds" / "fold-2")["test"]) == sum(
        split == "test" for split in made[2].values()
    )


def test_a_sources_own_splits_are_used_unless_a_group_crosses_them(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=12)
    own = {0: "validation", 1: "test"}
    rows = [
        (f"{label}/{index:02d}.jpg", label, own.get(index, "train"))
        for label in fakes.CLASSES
        for index in range(12)
    ]
    fakes.draw("circle", 0).resize((80, 80)).save(folder / "circle" / "twin.png")
    rows += [("circle/twin.png", "circle", "train"), ("circle/v.png", "circle", "test")]
    fakes.draw("circle", 50).save(folder / "circle" / "v.png")
    fakes.draw("circle", 51).save(folder / "circle" / "w.png")
    rows.append(("circle/w.png", "circle", "validation"))
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    prepare.prepare(f"csv:{folder / 'list.csv'}", str(tmp_path / "data"))
    made = _split_of(tmp_path / "data")
    expected = {name: split for name, _, split in rows}
    # Validation and training hold the same picture: it may be learnt, not tested on.
    expected["circle/00.jpg"] = "train"
    assert made == expected


def test_upright_and_smaller_is_what_is_stored(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=30)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = fakes.draw("stripe", 90).resize((300, 100))
    turned.save(folder / "stripe" / "turned.jpg", exif=exif, quality=95)
    prepare.prepare(str(folder), str(tmp_path / "data"), rules=Rules(max_side_px=60))
    stored = {
        name: image_bytes
        for examples in _read_all(tmp_path / "data").values()
        for name, _, image_bytes in examples
    }
    size_of = {name: Image.open(io.BytesIO(b)).size for name, b in stored.items()}
    assert size_of["stripe/turned.jpg"] == (20, 60)
    assert max(max(size) for size in size_of.values()) == 60
    untouched = 0
    for name, image_bytes in stored.items():
        original = (folder / name).read_bytes()
        fits = max(Image.open(io.BytesIO(original)).size) <= 60
        assert (image_bytes == original) == fits
        untouched += fits
    assert 0 < untouched < len(stored)
    audit = json.loads((tmp_path / "data" / "audit.json").read_text())
    sizes = audit["sizes"]
    assert sizes["stored_bytes"]["sum"] < sizes["file_bytes"]["sum"]


def test_strict_refuses_findings_and_audit_only_writes_one_report(prepared, tmp_path):
    source, _ = prepared
    with pytest.raises(ValueError, match="Received: 1 images left out, 1 copies"):
        prepare.prepare(str(source), str(tmp_path / "data"), strict=True)
    assert list(tmp_path.iterdir()) == []
    rules = Rules()
    with pytest.raises(ValueError, match="--strict allows no findings"):
        prepare.audit_only(str(source), str(tmp_path), seed=1, rules=rules, strict=True)
    assert {path.name for path in tmp_path.iterdir()} == {"audit.csv", "audit.html"}
    page = (tmp_path / "audit.html").read_text()
    assert "circle/bad.jpg" in page
    assert page.count("data:image/jpeg;base64,") >= 2
    assert "http" not in page


def test_conflicts_can_fail_the_preparation(tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=30)
    shutil.copy(folder / "circle" / "00.jpg", folder / "square" / "copy.jpg")
    with pytest.raises(ValueError, match=r"circle/00\.jpg, square/copy\.jpg"):
        prepare.prepare(
            str(folder), str(tmp_path / "data"), rules=Rules(conflicts="fail")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_an_output_inside_the_source_is_refused(photographs, tmp_path):
    (tmp_path / "link").symlink_to(photographs)
    for out in (photographs / "data", tmp_path / "link" / "circle" / "data"):
        with pytest.raises(ValueError, match="--out must not lie in --source"):
            prepare.prepare(str(photographs), str(out))
        assert not out.exists()


def test_a_tilde_is_no_directory(photographs):
    with pytest.raises(ValueError, match="write \\$HOME"):
        prepare.prepare(str(photographs), "~/data")


def test_the_background_is_stored_and_recorded(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=6)
    with Image.open(source / "circle" / "00.jpg") as opened:
        cut = opened.convert("RGBA")
    cut.paste((0, 0, 255, 0), (0, 0, 8, 8))
    cut.save(source / "circle" / "cut.png")
    samples = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(samples).save(source / "circle" / "scan.png")
    out = tmp_path / "data"
    prepare.prepare(str(source), str(out), rules=Rules(background="black"))
    stored = {
        name: image_bytes
        for split in _read_all(out).values()
        for name, _, image_bytes in split
    }
    with Image.open(io.BytesIO(stored["circle/cut.png"])) as image:
        assert image.mode == "RGB"
        assert image.getpixel((0, 0)) == (0, 0, 0)
        assert image.getpixel((20, 20)) == cut.getpixel((20, 20))[:3]
    audit = json.loads((out / "audit.json").read_text())
    assert audit["settings"]["background"] == "black"
    assert audit["sample_bits"] == 10
    oddities = {odd["name"]: odd["oddities"] for odd in audit["odd"]}
    assert "transparent: stored on black" in oddities["circle/cut.png"]
    form = StoredForm(background="black", sample_bits=10)
    assert prepared_data.read_stored_form(str(out)) == form


def test_data_without_a_record_are_on_white(tmp_path):
    assert prepared_data.read_stored_form(str(tmp_path)) == StoredForm()
    (tmp_path / "audit.json").write_text('{"settings": {"seed": 1}}')
    assert prepared_data.read_stored_form(str(tmp_path)) == StoredForm()
