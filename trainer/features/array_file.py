"""Writes and reads one array as a file that ends in a checksum."""

import errno
import os
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np

CHECKSUM_BYTES = 4


def is_intact(path: pathlib.Path, num_bytes: int) -> bool:
    """Returns True if the file exists, has its full size and matches its checksum.

    num_bytes: the size of the array, without the checksum.
    """
    if not path.is_file() or path.stat().st_size != num_bytes + CHECKSUM_BYTES:
        return False
    with open(path, "rb") as file:
        file.seek(num_bytes)
        return file.read() == _compute_checksum(path, num_bytes)


def append_checksum(path: pathlib.Path, num_bytes: int) -> None:
    """Writes the checksum of the first num_bytes bytes behind them."""
    with open(path, "r+b") as file:
        file.seek(num_bytes)
        file.write(_compute_checksum(path, num_bytes))


def _compute_checksum(path: pathlib.Path, num_bytes: int) -> bytes:
    content = np.memmap(path, np.uint8, mode="r", shape=num_bytes)
    return zlib.crc32(content.data).to_bytes(CHECKSUM_BYTES, "little")


def open_array(
    path: pathlib.Path, shape: Sequence[int], dtype: np.dtype, *, in_memory: bool
) -> np.ndarray:
    """Reads an array into memory, or maps it from the file."""
    os.utime(path)  # The modification time says when the file was last used.
    if in_memory:  # Not by a map, whose pages would be counted a second time.
        return np.fromfile(path, dtype, int(np.prod(shape))).reshape(shape)
    return np.memmap(path, dtype, mode="r", shape=tuple(shape))


def allocate(path: pathlib.Path, shape: Sequence[int], dtype: np.dtype) -> np.memmap:
    """Creates a file of the final size and maps it for writing.

    Call append_checksum() after the array is complete.

    Raises:
      OSError: the disk is full. Without the allocation, a write through the map would
        end the process with SIGBUS.
    """
    num_bytes = int(np.prod(shape)) * dtype.itemsize + CHECKSUM_BYTES
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except (AttributeError, OSError) as error:  # macOS, some file systems
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            file.truncate(num_bytes)
    return np.memmap(path, dtype, mode="r+", shape=tuple(shape))
