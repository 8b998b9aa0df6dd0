"""Reads TFRecord files and verifies their checksums, without TensorFlow.

The readers of tf.data need Python's TensorFlow, and the one of TensorBoard is private.
"""

import os
import struct
from collections.abc import Iterator

# Length (uint64) and checksum of the length (uint32); behind the data: its checksum.
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")

# CRC-32C, the polynomial of Castagnoli with its bits reversed (RFC 3720, B.4).
_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8

_REPAIR = "copy the file again, or repeat the command that wrote it."


def _make_table() -> tuple[int, ...]:
    """Computes the CRC-32C of each byte."""
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _make_table()


def masked_crc32c(data: bytes) -> int:
    """Computes the checksum that TFRecord files store.

    It is the CRC-32C, rotated and shifted by a constant as in TensorFlow's
    tsl/lib/hash/crc32c.h. The loop takes 0.3 seconds per megabyte; a warm-up file has
    1.4 megabytes, so that no compiled package is required for it.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yields the records of a TFRecord file that is not compressed, in order.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file ends within a record, or a checksum is wrong.
    """
    with open(path, "rb") as file:
        for offset, length in locate_records(path):
            file.seek(offset)
            record = file.read(length)
            (record_crc,) = _FOOTER.unpack(file.read(_FOOTER.size))
            if masked_crc32c(record) != record_crc:
                raise ValueError(
                    f"The data of a record is damaged. Received: {path}; {_REPAIR}"
                )
            yield record


def locate_records(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """Yields the place of each record's data in the file: offset and length in bytes.

    Only the lengths are read and verified, so that a few records of a large file can
    be read at once.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file ends within a record, or the checksum of a length is wrong.
    """
    with open(path, "rb") as file:
        file_bytes = os.path.getsize(path)
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise ValueError(
                    f"The file ends within a record. Received: {path}; {_REPAIR}"
                )
            length, length_crc = _HEADER.unpack(header)
            # The length is verified before it is used: a wrong one could ask for more
            # memory than there is.
            if masked_crc32c(header[:8]) != length_crc:
                raise ValueError(
                    f"The length of a record is damaged. Received: {path}; {_REPAIR}"
                )
            offset = file.tell()
            if offset + length + _FOOTER.size > file_bytes:
                raise ValueError(
                    f"The file ends within a record. Received: {path}; {_REPAIR}"
                )
            yield offset, length
            file.seek(offset + length + _FOOTER.size)
