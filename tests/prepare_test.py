import csv
import json
import pathlib

import fakes
import pytest
import tensorflow_datasets as tfds

from pipeline import prepare


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
    assert len(examples) == 91
    for name, label, image_bytes in examples:
        assert image_bytes == (source / name).read_bytes()
        assert name.startswith(f"{label}/")
    assert "circle/bad.jpg" not in {name for name, _, _ in examples}


def test_splits_csv_and_audit_say_what_the_records_hold(prepared):
    _, data_dir = prepared
    in_records = {
        name: (split, label)
        for split, examples in _read_all(data_dir).items()
        for name, label, _ in examples
    }
    with open(data_dir / "splits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["name"]: (r["split"], r["label"]) for r in rows} == in_records
    audit = json.loads((data_dir / "audit.json").read_text())
    assert audit["rejected"] == [
        {"name": "circle/bad.jpg", "reason": "not an image", "action": "left out"}
    ]
    assert audit["duplicate_groups"] == [
        {
            "names": ["circle/03.jpg", "circle/twin.jpg"],
            "action": "kept in one split",
        }
    ]
    assert in_records["circle/03.jpg"] == in_records["circle/twin.jpg"]
    assert sum(sum(c.values()) for c in audit["classes"].values()) == 91


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
    assert sum(len(examples) for examples in _read_all(out).values()) == 91


@pytest.mark.parametrize(
    ("per_class", "arguments", "message"),
    [
        (2, {}, "Every split needs images of every class"),
        (30, {"num_shards": 50}, "--shards must lie between 1 and"),
        (30, {"num_shards": 0}, "Received: --shards=0"),
        (30, {"fractions": (0.5, 0.5, 0.5)}, "add up to 1"),
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
    assert "broken/1.jpg: not an image" in str(error.value)


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    source = fakes.write_folder(tmp_path / "photos", per_class=30)
    monkeypatch.setattr(prepare, "_write_splits", _disk_full)
    with pytest.raises(OSError, match="No space left"):
        prepare.prepare(str(source), str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def _disk_full(*_):
    raise OSError(28, "No space left on device")
