import struct

import pytest
import tensorflow as tf

from pipeline.system.tfrecord import locate_records, masked_crc32c, read_records

RECORDS = [b"first", b"", bytes(range(256)) * 3]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def test_the_checksum_is_the_one_of_the_standard():
    # RFC 3720, B.4: the CRC-32C of 32 zeros is 0x8a9136aa.
    rotated = (0x8A9136AA >> 15 | 0x8A9136AA << 17) & 0xFFFFFFFF
    assert masked_crc32c(bytes(32)) == (rotated + 0xA282EAD8) % 2**32


def test_the_records_of_tensorflow_are_read(path):
    assert list(read_records(path)) == RECORDS


def test_a_record_can_be_read_from_its_place(path):
    content = path.read_bytes()
    places = list(locate_records(path))
    assert [content[start : start + length] for start, length in places] == RECORDS


def test_an_empty_file_has_no_record(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert list(read_records(tmp_path / "empty")) == []


# Within the header, the data and the checksum of the first record, and of the last.
@pytest.mark.parametrize("length", [1, 8, 11, 12, 14, 17, 20, -1, -5, -700])
def test_a_file_that_is_cut_is_an_error(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"ends within a record. Received: .*records"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("position", "damaged_part"),
    [
        (0, "length"),
        (7, "length"),
        (8, "length"),
        (12, "data"),
        (16, "data"),
        (17, "data"),
    ],
)
@pytest.mark.parametrize("bit", [0, 7])
def test_a_changed_bit_is_an_error(path, position, damaged_part, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)
    message = f"The {damaged_part} of a record is damaged. Received: .*records"
    with pytest.raises(ValueError, match=message):
        list(read_records(path))


def test_records_before_the_damaged_one_are_read(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    records = read_records(path)
    assert [next(records), next(records)] == RECORDS[:2]
    with pytest.raises(ValueError, match="data of a record"):
        next(records)


def test_a_length_of_more_than_the_file_allocates_nothing(path):
    length = struct.pack("<Q", 1 << 60)
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + b"data")
    with pytest.raises(ValueError, match="ends within a record"):
        list(read_records(path))
