"""Reads regular files only, each within a time limit."""

import dataclasses
import os
import queue
import stat
import threading
import weakref

# A larger file is no photograph; reading it could fill the memory.
MAX_FILE_BYTES = 1 << 28

# Seconds that reading one file may take. After _MANY_STALLS files in a row that took
# longer, the drive is taken for lost, and each further file gets _SHORT_SECONDS.
READ_SECONDS = 30.0
_SHORT_SECONDS = 1.0
_MANY_STALLS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class _Reader:
    """A thread that reads files for one other thread.

    paths: the files to read, then None to end the thread.
    results: for each path its bytes, or the error.
    process: the number of its process; a fork does not have the thread.
    """

    paths: queue.SimpleQueue
    results: queue.SimpleQueue
    process: int


_of_this_thread = threading.local()


def read_regular_file(path: str) -> bytes:
    """Returns the content of a regular file, or of one that a link leads to.

    Another thread reads, because nothing can interrupt a thread that waits for a
    network drive. That costs about 15 microseconds of a file.

    Raises:
      ValueError: the path has a null character.
      OSError: the file is no regular file (a pipe, a socket, a device, a folder), is
        larger than MAX_FILE_BYTES, changes while it is read, cannot be read, or is not
        read within READ_SECONDS.
    """
    reader = getattr(_of_this_thread, "reader", None)
    if reader is None or reader.process != os.getpid():
        reader = _start_reader()
    # It is set again only after an answer: the answer to a call that was interrupted
    # must not be taken for the answer to the next one.
    _of_this_thread.reader = None
    stalls = getattr(_of_this_thread, "stalls", 0)
    seconds = (
        READ_SECONDS if stalls < _MANY_STALLS else min(_SHORT_SECONDS, READ_SECONDS)
    )
    reader.paths.put(path)
    try:
        result = reader.results.get(timeout=seconds)
    except queue.Empty:
        _of_this_thread.stalls = stalls + 1
        raise OSError(f"not read within {seconds:g} seconds") from None
    _of_this_thread.reader, _of_this_thread.stalls = reader, 0
    if isinstance(result, Exception):
        raise result
    return result


def _start_reader() -> _Reader:
    reader = _Reader(queue.SimpleQueue(), queue.SimpleQueue(), os.getpid())
    # A daemon does not keep the process alive if its drive never answers.
    threading.Thread(
        target=_read_paths, args=(reader.paths, reader.results), daemon=True
    ).start()
    weakref.finalize(reader, reader.paths.put, None)
    return reader


def _read_paths(paths: queue.SimpleQueue, results: queue.SimpleQueue) -> None:
    while (path := paths.get()) is not None:
        try:
            results.put(_read(path))
        except Exception as error:
            results.put(error)


def _read(path: str) -> bytes:
    # Opening a pipe waits for a writer, and opening a device can act on it.
    _check_is_regular(os.stat(path))
    # The file may have become a pipe since; a pipe opened so does not wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_is_regular(status)
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(f"more than {MAX_FILE_BYTES} bytes")
        # One byte more than the size shows that the file has grown.
        content = file.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise OSError("changes while it is read")
    return content


def _check_is_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
