"""Calls one function for many items on every core of this machine."""

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
from typing import TypeVar

from pipeline.system import console

Item = TypeVar("Item")
Result = TypeVar("Result")

# Threads start at once but share Python's lock, which on two cores costs a fifth of the
# time that Pillow needs. Processes start in a quarter of a second, with TensorFlow in
# three seconds. From this number of items on, processes are faster.
_WORTH_PROCESSES = 3_000
_WORTH_PROCESSES_WITH_TENSORFLOW = 6_000
_CHUNK = 16


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    label: str,
    unit: str,
    needs_tensorflow: bool,
    preload: str,
) -> list[Result]:
    """Returns [function(item) for item in items] and shows the progress.

    Args:
      function: can be pickled, and so can the items and the results.
      items: the arguments of the calls.
      label: what the calls do, for the progress line.
      unit: what the items are, for the progress line.
      needs_tensorflow: the function uses TensorFlow. If False, no process loads it.
      preload: the module of the function. It is imported once, and each new process
        starts with it.
    """
    if not items:
        return []
    workers = count_cores()
    least_items = (
        _WORTH_PROCESSES_WITH_TENSORFLOW if needs_tensorflow else _WORTH_PROCESSES
    )
    pool: concurrent.futures.Executor
    if workers > 1 and len(items) >= least_items:
        # forkserver, not fork: the threads of TensorFlow do not survive a fork.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        pool = concurrent.futures.ProcessPoolExecutor(
            workers, context, initializer=start_worker, initargs=(needs_tensorflow,)
        )
    else:
        if needs_tensorflow:
            load_tensorflow()
        pool = concurrent.futures.ThreadPoolExecutor(workers)
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    with warnings.catch_warnings(), console.hide_lines_of_libraries(), pool:
        _ignore_warnings()
        map_chunk = functools.partial(_map_chunk, function)
        mapped = map_bounded(pool, map_chunk, chunks, ahead=4 * workers)
        results = itertools.chain.from_iterable(mapped)
        return list(console.track(results, total=len(items), label=label, unit=unit))


def map_bounded(
    pool: concurrent.futures.Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int,
) -> Iterator[Result]:
    """Yields the results in the order of the items, as pool.map does.

    At most `ahead` calls wait or run at a time, so that memory does not grow with the
    number of items.
    """
    remaining = iter(items)
    waiting = collections.deque(
        pool.submit(function, item) for item in itertools.islice(remaining, ahead)
    )
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(
                pool.submit(function, item) for item in itertools.islice(remaining, 1)
            )
    finally:  # After an error, or when the caller stops iterating.
        for future in waiting:
            future.cancel()


def count_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _map_chunk(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> list[Result]:
    return [function(item) for item in items]


def _ignore_warnings() -> None:
    """Hides warnings of Pillow about large sizes, which we limit, and odd metadata."""
    warnings.simplefilter("ignore")


def load_tensorflow() -> None:
    """Imports TensorFlow before any thread needs it.

    Hiding what it prints redirects file descriptor 2 of the whole process, which two
    threads cannot do at the same time.
    """
    with console.quiet_tensorflow_import():
        import tensorflow  # noqa: F401


def start_worker(needs_tensorflow: bool) -> None:
    """Prepares a new worker process."""
    # Ctrl-C reaches every process of the terminal; only the main process reports it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _ignore_warnings()
    if needs_tensorflow:
        load_tensorflow()
    # A line of a library would not say which item it means.
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 2)


def _end_with_parent() -> None:
    """Ends this process if its parent dies; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
