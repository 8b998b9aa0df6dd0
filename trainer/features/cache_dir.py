"""Arrays in files that runs input_context, within bounds of disk and memory."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import platform
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import tensorflow as tf

from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime

# Hosts that share a directory may have processes of one number.
PROCESS_ID = f"{platform.node()}-{os.getpid()}"

_SECONDS_TO_BE_LEFT_BEHIND = 24 * 3600.0

# Up to this share of the free memory is read into it; what is more is mapped.
MEMORY_FRACTION = 0.25

# Of a container: its limit, and what of it is in use (cgroup versions 2 and 1).
_MEMORY_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)

_SECONDS_BETWEEN_TRIES = 0.2

# Never fill a disk to the last byte: others write there too.
_FREE_AFTERWARDS_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """Where features are kept, and how much of them.

    directory: may be shared by runs, and by processes at the same time.
    max_bytes: of all that lies there, of however many workers.
    fingerprint: of the data and of what else features depend on besides the weights.
    """

    directory: pathlib.Path
    max_bytes: int
    fingerprint: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """What is to lie in the cache: for each output a file a view.

    what, received, advice: for the message that there is no room.
    names: of the files, [outputs][views]; all that decides the content is in them.
    shapes: of each output, without the examples.
    """

    what: str
    received: str
    advice: str
    label: str
    names: Sequence[Sequence[str]]
    shapes: Sequence[Sequence[int]]
    dtype: np.dtype

    def num_bytes(self, output: int, count: int) -> int:
        """Of a file of that output for so many examples."""
        return count * int(np.prod(self.shapes[output])) * self.dtype.itemsize


@contextlib.contextmanager
def lock_cache(directory: pathlib.Path, runtime: Runtime) -> Iterator[None]:
    """One run at a time: a second one finds what the first has computed.

    Of several workers the chief alone waits for another run, and all for the chief;
    none lets go before all are done.

    Raises:
      preemption.Stopped: asked to, through the runtime's stop signal, while it waits.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not runtime.is_chief:
        collectives.barrier(runtime)
        _tidy(directory)  # its own disk, it may be
        yield
        collectives.barrier(runtime)
        return
    with open(directory / ".lock", "w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: both compute
            said = False
            while not _try_to_lock(file):
                if not said:
                    print(f"another run uses {directory}; waiting for it", flush=True)
                said = True
                time.sleep(_SECONDS_BETWEEN_TRIES)
                if not collectives.has_several_workers(runtime):
                    runtime.stop_signal.check()
        _tidy(directory)
        collectives.barrier(runtime)
        yield
        collectives.barrier(runtime)


def _try_to_lock(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tidy(directory: pathlib.Path) -> None:
    for partial in directory.glob(".*.tmp-*"):
        if _is_left_behind(partial):
            partial.unlink(missing_ok=True)


def _is_left_behind(partial: pathlib.Path) -> bool:
    """Whether nobody writes it any more: a worker of this run, or another run, may."""
    host, _, process = partial.name.rpartition(".tmp-")[2].rpartition("-")
    if host == platform.node() and process.isdecimal():
        return not os.path.exists(f"/proc/{process}")
    try:
        return time.time() - partial.stat().st_mtime > _SECONDS_TO_BE_LEFT_BEHIND
    except FileNotFoundError:
        return False


def shard_path(
    path: pathlib.Path, input_context: tf.distribute.InputContext
) -> pathlib.Path:
    """Where one worker keeps what is its own of a file, as shards are named."""
    part = f"-{input_context.input_pipeline_id:05d}-of-{input_context.num_input_pipelines:05d}"
    return path.with_name(f"{path.stem}{part}{path.suffix}")


def _count_workers_on(directory: pathlib.Path, runtime: Runtime) -> int:
    """How many workers' directory is this very one; for all of them to call."""
    mark = collectives.broadcast_from_chief(runtime, secrets.randbelow(1 << 30))
    own = (
        directory
        / f".{mark}-{collectives.make_input_context(runtime).input_pipeline_id}.tmp-{PROCESS_ID}"
    )
    own.touch()
    collectives.barrier(runtime)
    found = len(list(directory.glob(f".{mark}-*.tmp-*")))
    collectives.barrier(runtime)
    own.unlink(missing_ok=True)
    return found


def make_room(
    cache: FeatureCache,
    kept: CacheEntry,
    runtime: Runtime,
    paths: Sequence[Sequence[pathlib.Path]],
    lacking: Sequence[Sequence[pathlib.Path | None]],
    sizes: Sequence[int],
) -> str | None:
    """Removes what was used longest ago; says what would not fit all the same.

    For every worker to call: where they share the directory, it is for all of them.

    paths: of each output and view, without the workers' shares.
    lacking: of this worker's files those to write.
    sizes: of this worker's file of each output.
    """
    workers = _count_workers_on(cache.directory, runtime)
    needed = workers * len(paths[0]) * sum(sizes)
    if needed > cache.max_bytes:
        return (
            f"{kept.what} take {_gigabytes(needed)} and may take "
            f"{_gigabytes(cache.max_bytes)}. Received: {kept.received} "
            f"--cache_gb={cache.max_bytes / 1e9:g}; {kept.advice} or a larger "
            "--cache_gb."
        )
    wanted = {path.stem for views in paths for path in views}
    # Shares of another number of workers are of no use to this run.
    of_as_many = (
        f"-of-{collectives.make_input_context(runtime).num_input_pipelines:05d}"
    )
    others = []
    for path in cache.directory.glob("*.features"):
        with contextlib.suppress(FileNotFoundError):  # another worker makes room too
            status = path.stat()
            name = path.stem.partition("-")[0]
            if name not in wanted or not path.stem.endswith(of_as_many):
                others.append((status.st_mtime, status.st_size, path))
    used = sum(size for _, size, _ in others)
    for _, size, oldest in sorted(others):
        if used + needed <= cache.max_bytes:
            break
        used -= size
        oldest.unlink(missing_ok=True)
    to_write = workers * sum(
        size
        for size, views in zip(sizes, lacking, strict=True)
        for path in views
        if path
    )
    free = shutil.disk_usage(cache.directory).free
    if to_write and to_write + _FREE_AFTERWARDS_BYTES > free:
        return (
            f"{kept.what} take {_gigabytes(to_write)}, and the disk has "
            f"{_gigabytes(free)}. Received: {kept.received} "
            f"--cache_dir={cache.directory}; {kept.advice} or a disk with more room."
        )
    return None


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.3g} GB"


def free_memory() -> int:
    """Bytes that this machine, or the container, can still give."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in _MEMORY_LIMITS:
        # There may be none, and "max" is no number.
        with contextlib.suppress(OSError, ValueError):
            left = int(pathlib.Path(limit).read_text())
            left -= int(pathlib.Path(used).read_text())
            free = min(free, left)
    return free
