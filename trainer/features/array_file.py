"""Arrays in files that runs input_context, within bounds of disk and memory."""

import errno
import os
import pathlib
import zlib

import numpy as np

# At the end of each file, of what comes before.
CHECKSUM_BYTES = 4


def is_whole(path: pathlib.Path, num_bytes: int) -> bool:
    """Whether a file is there, neither cut short nor damaged since it was sealed."""
    if not path.is_file() or path.stat().st_size != num_bytes + CHECKSUM_BYTES:
        return False
    with open(path, "rb") as file:
        file.seek(num_bytes)
        return file.read() == _checksum(path, num_bytes)


def append_checksum(path: pathlib.Path, num_bytes: int) -> None:
    """Ends a file with the checksum of its content."""
    with open(path, "r+b") as file:
        file.seek(num_bytes)
        file.write(_checksum(path, num_bytes))


def _checksum(path: pathlib.Path, num_bytes: int) -> bytes:
    content = np.memmap(path, np.uint8, mode="r", shape=num_bytes)
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little")


def open_array(
    path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype, in_memory: bool
) -> np.ndarray:
    """In memory, or mapped from the file."""
    os.utime(path)  # used just now
    if in_memory:  # not by a map, whose pages would count as well
        return np.fromfile(path, dtype, int(np.prod(shape))).reshape(shape)
    return np.memmap(path, dtype, mode="r", shape=shape)


def allocate(path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """A new file to write to and to seal, whose blocks the disk has given already.

    Raises:
      OSError: it has none left; through a map that would be the end of the process.
    """
    num_bytes = int(np.prod(shape)) * dtype.itemsize + CHECKSUM_BYTES
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except (AttributeError, OSError) as error:  # macOS, some file systems
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            file.truncate(num_bytes)
    return np.memmap(path, dtype, mode="r+", shape=shape)
