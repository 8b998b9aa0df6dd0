"""Reads regular files only, each within a time limit."""

import dataclasses
import functools
import os
import queue
import stat
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

# A larger file is no photograph; reading it could fill the memory.
MAX_FILE_BYTES = 1 << 28

# Seconds that reading one file may take. After _MANY_STALLS files in a row that took
# longer, the drive is taken for lost, and each further file gets _SHORT_SECONDS.
READ_SECONDS = 30.0
_SHORT_SECONDS = 1.0
_MANY_STALLS = 3

_LOCAL_TYPES = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs"),
    *("ramfs", "squashfs", "erofs", "vfat", "exfat", "ntfs3", "iso9660", "udf"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class _Reader:
    """A thread that reads files for one other thread.

    calls: functions and paths, then None to end the thread.
    results: for each call its result, or the error.
    process: the number of its process; a fork does not have the thread.
    """

    calls: queue.SimpleQueue
    results: queue.SimpleQueue
    process: int


_of_this_thread = threading.local()


def read_regular_file(path: str) -> bytes:
    """Returns the content of a regular file, or of one that a link leads to.

    Nothing can interrupt a thread that waits for a network drive. Therefore another
    thread reads, unless the file is on a file system of this machine: its cold caches
    would cost a tenth of the time that a small photograph takes to inspect.

    Raises:
      ValueError: the path has a null character.
      OSError: the file is no regular file (a pipe, a socket, a device, a folder), is
        larger than MAX_FILE_BYTES, changes while it is read, cannot be read, or is not
        read within READ_SECONDS.
    """
    folder = os.path.dirname(path)
    if _is_local(folder) and not os.path.islink(path):
        return _read(path)
    return _call_in_time(_read, path)


@functools.lru_cache(maxsize=100_000)
def _is_local(folder: str) -> bool:
    device = _call_in_time(os.stat, folder or ".").st_dev
    return f"{os.major(device)}:{os.minor(device)}" in _find_local_devices()


@functools.cache
def _find_local_devices() -> frozenset[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return parse_local_devices(file.read())
    except OSError:  # Not Linux.
        return frozenset()


def parse_local_devices(mountinfo: str) -> frozenset[str]:
    """Returns the devices, MAJOR:MINOR, whose file systems are of this machine.

    mountinfo: the content of /proc/self/mountinfo; see proc_pid_mountinfo(5).
    """
    devices = set()
    for line in mountinfo.splitlines():
        fields, _, types = line.partition(" - ")
        if types.split(" ")[0] in _LOCAL_TYPES and len(fields.split()) > 2:
            devices.add(fields.split()[2])
    return frozenset(devices)


def _call_in_time(function: Callable[[str], Result], path: str) -> Result:
    """Returns function(path), called by the reader of this thread.

    Raises:
      OSError: there is no result within READ_SECONDS.
    """
    reader = getattr(_of_this_thread, "reader", None)
    if reader is None or reader.process != os.getpid():
        reader = _start_reader()
    # It is set again only after an answer: the answer to a call that was interrupted
    # must not be taken for the answer to the next one.
    _of_this_thread.reader = None
    stalls = getattr(_of_this_thread, "stalls", 0)
    seconds = READ_SECONDS
    if stalls >= _MANY_STALLS:
        seconds = min(_SHORT_SECONDS, READ_SECONDS)
    reader.calls.put((function, path))
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
        target=_answer, args=(reader.calls, reader.results), daemon=True
    ).start()
    weakref.finalize(reader, reader.calls.put, None)
    return reader


def _answer(calls: queue.SimpleQueue, results: queue.SimpleQueue) -> None:
    while (call := calls.get()) is not None:
        function, path = call
        try:
            results.put(function(path))
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
            raise OSError(f"larger than {MAX_FILE_BYTES / 2**20:g} MiB")
        # One byte more than the size shows that the file has grown.
        content = file.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise OSError("changes while it is read")
    return content


def _check_is_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
