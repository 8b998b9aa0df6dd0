"""Manages the directory of cached arrays: its lock, its size, what crashes left."""

import contextlib
import dataclasses
import os
import pathlib
import platform
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping

import tensorflow as tf

from pipeline.system import files
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime

# A cached array is read into memory if it takes at most this fraction of the free
# memory; a larger one is mapped.
MEMORY_FRACTION = 0.25

# The limit and the use of a container's memory (cgroup versions 2 and 1).
_MEMORY_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)

# With the host's name: hosts that share a directory may use the same process number.
_PROCESS_ID = f"{platform.node()}-{os.getpid()}"

_SECONDS_UNTIL_STALE = 24 * 3600.0
_SECONDS_BETWEEN_TRIES = 0.2

# The cache never fills a disk to the last byte: other programs write there too.
_FREE_AFTERWARDS_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """A directory of cached arrays.

    directory: runs and processes can share it at the same time.
    max_bytes: limit on the total size of the files in the directory, those of all
      workers together.
    fingerprint: everything besides the weights that the features depend on.
    """

    directory: pathlib.Path
    max_bytes: int
    fingerprint: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class RoomRequest:
    """The files that one worker needs in the cache, and the words for an error.

    file_names: names of all needed files, without suffix and shard number.
    needed_bytes: size of all needed files of this worker.
    missing_bytes: size of those that this worker still has to write.
    content, flag, advice: the words of the message that there is no room, such as
      "The features of 2 view(s)", "--cached_views=2", "fewer views".
    """

    file_names: Iterable[str]
    needed_bytes: int
    missing_bytes: int
    content: str
    flag: str
    advice: str


@contextlib.contextmanager
def lock_cache(directory: pathlib.Path, runtime: Runtime) -> Iterator[None]:
    """Locks the cache directory.

    A second run waits and then finds the files of the first one. With several workers
    only the chief takes the lock. The others wait at a barrier until it has the lock,
    and all meet at a barrier before it is released.

    Raises:
      preemption.Stopped: the process was asked to stop while it waited.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not runtime.is_chief:
        collectives.barrier(runtime)
        _remove_stale_files(directory)  # This worker may have a disk of its own.
        yield
        collectives.barrier(runtime)
        return
    lock_file = directory / ".lock"
    lock_file.touch()
    with files.lock(lock_file, wait=_make_wait(directory, runtime)):
        _remove_stale_files(directory)
        collectives.barrier(runtime)
        yield
        collectives.barrier(runtime)


def _make_wait(directory: pathlib.Path, runtime: Runtime):
    has_printed = False

    def wait() -> None:
        nonlocal has_printed
        if not has_printed:
            print(f"another run uses {directory}; waiting for it", flush=True)
        has_printed = True
        time.sleep(_SECONDS_BETWEEN_TRIES)
        # A worker of a cluster stops only where all workers stop.
        if not collectives.has_several_workers(runtime):
            runtime.stop_signal.check()

    return wait


def partial_path(path: pathlib.Path) -> pathlib.Path:
    """Returns the hidden name under which this process writes a file at first."""
    return path.with_name(f".{path.name}.tmp-{_PROCESS_ID}")


def _remove_stale_files(directory: pathlib.Path) -> None:
    for partial in directory.glob(".*.tmp-*"):
        if _is_stale(partial):
            partial.unlink(missing_ok=True)


def _is_stale(partial: pathlib.Path) -> bool:
    """Returns True if no process still writes this partial file."""
    host, _, process = partial.name.rpartition(".tmp-")[2].rpartition("-")
    if host == platform.node() and process.isdecimal():
        return not os.path.exists(f"/proc/{process}")
    try:
        return time.time() - partial.stat().st_mtime > _SECONDS_UNTIL_STALE
    except FileNotFoundError:
        return False


def shard_path(
    path: pathlib.Path, input_context: tf.distribute.InputContext
) -> pathlib.Path:
    """Returns the path of one worker's shard: NAME-00001-of-00004.SUFFIX."""
    shard = f"-{input_context.input_pipeline_id:05d}{_shard_ending(input_context)}"
    return path.with_name(f"{path.stem}{shard}{path.suffix}")


def _shard_ending(input_context: tf.distribute.InputContext) -> str:
    return f"-of-{input_context.num_input_pipelines:05d}"


def _count_sharing_workers(directory: pathlib.Path, runtime: Runtime) -> int:
    """Counts the workers that see this same directory. Every worker has to call it."""
    mark = collectives.broadcast_from_chief(runtime, secrets.randbelow(1 << 30))
    worker = collectives.make_input_context(runtime).input_pipeline_id
    own_file = directory / f".{mark}-{worker}.tmp-{_PROCESS_ID}"
    own_file.touch()
    collectives.barrier(runtime)
    num_workers = len(list(directory.glob(f".{mark}-*.tmp-*")))
    collectives.barrier(runtime)
    own_file.unlink(missing_ok=True)
    return num_workers


def make_room(
    cache: FeatureCache, runtime: Runtime, request: RoomRequest
) -> str | None:
    """Removes the files that were used longest ago until new ones have room.

    Every worker has to call it, because workers can share the directory.

    Returns:
      None, or the message that there is no room.
    """
    num_workers = _count_sharing_workers(cache.directory, runtime)
    needed_bytes = num_workers * request.needed_bytes
    if needed_bytes > cache.max_bytes:
        return (
            f"{request.content} take {_gigabytes(needed_bytes)}, and the cache may "
            f"take {_gigabytes(cache.max_bytes)}. Received: {request.flag} "
            f"--cache_gb={cache.max_bytes / 1e9:g}; use {request.advice} or a larger "
            "--cache_gb."
        )
    _evict(cache, runtime, set(request.file_names), needed_bytes)
    missing_bytes = num_workers * request.missing_bytes
    free_bytes = shutil.disk_usage(cache.directory).free
    if missing_bytes and missing_bytes + _FREE_AFTERWARDS_BYTES > free_bytes:
        return (
            f"{request.content} take {_gigabytes(missing_bytes)}, and the disk has "
            f"{_gigabytes(free_bytes)} left. Received: {request.flag} "
            f"--cache_dir={cache.directory}; use {request.advice} or a disk with more "
            "room."
        )
    return None


def _evict(
    cache: FeatureCache, runtime: Runtime, keep_names: set[str], needed_bytes: int
) -> None:
    # A run cannot use the shards of another number of workers.
    ending = _shard_ending(collectives.make_input_context(runtime))
    evictable = []
    for path in cache.directory.glob("*.features"):
        with contextlib.suppress(FileNotFoundError):  # Another worker removed it.
            status = path.stat()
            name = path.stem.partition("-")[0]
            if name not in keep_names or not path.stem.endswith(ending):
                evictable.append((status.st_mtime, status.st_size, path))
    used_bytes = sum(size for _, size, _ in evictable)
    for _, size, oldest in sorted(evictable):
        if used_bytes + needed_bytes <= cache.max_bytes:
            break
        used_bytes -= size
        oldest.unlink(missing_ok=True)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.3g} GB"


def fits_in_memory(num_bytes: int) -> bool:
    """Returns True if an array of this size should be read into memory."""
    return num_bytes < MEMORY_FRACTION * count_free_memory_bytes()


def count_free_memory_bytes() -> int:
    """Returns the free memory of the machine, or of the container if that is less."""
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit_file, used_file in _MEMORY_LIMITS:
        # The files may be absent, and "max" is not a number.
        with contextlib.suppress(OSError, ValueError):
            limit_bytes = int(pathlib.Path(limit_file).read_text())
            used_bytes = int(pathlib.Path(used_file).read_text())
            free_bytes = min(free_bytes, limit_bytes - used_bytes)
    return free_bytes
