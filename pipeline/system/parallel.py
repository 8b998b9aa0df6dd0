"""map_on_all_cores(): one function over all images, on every core of this machine."""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.sources.images import SourceImage
from pipeline.system import console

# Threads start at once and share Python's lock, which on two cores costs a fifth of
# what Pillow does. Processes start in a quarter of a second, with TensorFlow in three.
_WORTH_PROCESSES = 1_000
_WORTH_PROCESSES_WITH_TENSORFLOW = 6_000
_CHUNK = 16


def parallel_map(
    function: Callable,
    images: Sequence[SourceImage],
    *,
    label: str,
    tensorflow: bool,
) -> list:
    """[function(image) for image in images], with a progress bar.

    function: can be pickled, and so can its results.
    tensorflow: whether function needs TensorFlow; if not, no process loads it.
    """
    if not images:
        return []
    workers = count_cores()
    enough = _WORTH_PROCESSES_WITH_TENSORFLOW if tensorflow else _WORTH_PROCESSES
    if workers > 1 and len(images) >= enough:
        # No fork of this process: TensorFlow's threads would not come along.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pipeline.look"])
        pool = concurrent.futures.ProcessPoolExecutor(
            workers, context, initializer=_start_worker, initargs=(tensorflow,)
        )
    else:
        if tensorflow:
            load_tensorflow()
        pool = concurrent.futures.ThreadPoolExecutor(workers)
    chunks = [images[at : at + _CHUNK] for at in range(0, len(images), _CHUNK)]
    with warnings.catch_warnings(), pool:
        _ignore_warnings()
        map_chunk = functools.partial(_map_chunk, function)
        mapped = map_bounded(pool, map_chunk, chunks, ahead=4 * workers)
        results = itertools.chain.from_iterable(mapped)
        return list(
            console.track(results, total=len(images), label=label, unit="images")
        )


def map_bounded(
    pool: concurrent.futures.Executor,
    function: Callable,
    items: Iterable,
    *,
    ahead: int,
) -> Iterator:
    """pool.map in order, no more than `ahead` calls waiting: memory stays flat."""
    items = iter(items)
    waiting = collections.deque(
        pool.submit(function, item) for item in itertools.islice(items, ahead)
    )
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(
                pool.submit(function, item) for item in itertools.islice(items, 1)
            )
    finally:  # whoever asked has stopped asking
        for future in waiting:
            future.cancel()


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _map_chunk(function: Callable, images: Sequence[SourceImage]) -> list:
    return [function(image) for image in images]


def _ignore_warnings() -> None:
    """Pillow warns of sizes below our own limit and of odd metadata."""
    warnings.simplefilter("ignore")


def load_tensorflow() -> None:
    """Before threads need it: what it writes can be hidden by one at a time only."""
    with console.quiet_tensorflow_import():
        import tensorflow  # noqa: F401


def _start_worker(tensorflow: bool) -> None:
    """Once in each process."""
    # Ctrl-C reaches every process of the terminal; the one that asked says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _ignore_warnings()
    if tensorflow:
        load_tensorflow()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
