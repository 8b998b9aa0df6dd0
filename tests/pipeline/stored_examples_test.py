import pathlib
import shutil

import pytest

from pipeline import prepare
from pipeline.loading import prepared_data
from pipeline.stored_examples import read_examples


def test_examples_are_those_that_tensorflow_reads(photographs, tmp_path):
    prepare.prepare(str(photographs), str(tmp_path / "data"), num_shards=3)
    records = prepared_data.read_records(str(tmp_path / "data"), "test")
    expected = list(records.dataset.as_numpy_iterator())
    positions = [0, 2, records.count - 1]
    examples = read_examples(tmp_path / "data", "test", positions)
    assert list(examples) == positions
    for position, example in examples.items():
        assert example.name == expected[position]["name"].decode()
        assert example.image_bytes == expected[position]["image_bytes"]


def test_positions_that_do_not_exist_have_no_example(data_dir):
    examples = read_examples(pathlib.Path(data_dir), "test", [1, 10_000])
    assert list(examples) == [1]


def test_no_data_have_no_examples(tmp_path):
    assert read_examples(tmp_path, "test", [0]) == {}


def test_damage_is_an_error(data_dir, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    (shard,) = copy.glob("*-test.tfrecord-*")
    content = bytearray(shard.read_bytes())
    content[12:16] = b"\xff" * 4  # The first bytes of the first record.
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"A record is damaged.* Received: .*-test"):
        read_examples(copy, "test", [0])
    shard.write_bytes(content[:100])
    with pytest.raises(ValueError, match="ends within a record"):
        read_examples(copy, "test", [0])
