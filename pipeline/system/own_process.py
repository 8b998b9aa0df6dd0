"""Calls a function in processes that are ended if they hang.

A thread that waits for a library cannot be ended, and a library that crashes ends its
process. So the calls are made in other processes, and cost only their own item.
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Generic, TypeVar

from pipeline.system import console, parallel

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Failure:
    """The call has no result.

    reason: what the function does instead, such as "takes more than 60 seconds".
    """

    reason: str


@dataclasses.dataclass(frozen=True)
class _Worker(Generic[Item, Result]):
    """A process that answers each item with a result or a Failure."""

    process: ForkServerProcess
    connection: Connection


def map_in_own_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    seconds: float,
    label: str,
    unit: str,
    preload: str,
) -> list[Result | Failure]:
    """Returns [function(item) for item in items], or a Failure in place of a result.

    A call fails if it takes more than `seconds`, raises an error or ends its process.
    What the processes write to stderr is not shown.

    The other arguments are those of parallel.parallel_map.
    """
    if not items:
        return []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    threads = min(parallel.count_cores(), len(items))
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        started: list[_Worker] = []

        def call(item: Item) -> Result | Failure:
            try:
                worker = idle.get_nowait()
            except queue.Empty:
                worker = _start(context, function)
                started.append(worker)
            answer = _ask(worker, item, seconds=seconds)
            if worker.process.is_alive():
                idle.put(worker)
            return answer

        with _ending(started):
            answers = parallel.map_bounded(pool, call, items, ahead=4 * threads)
            return list(
                console.track(answers, total=len(items), label=label, unit=unit)
            )


@contextlib.contextmanager
def _ending(workers: Sequence[_Worker]) -> Iterator[None]:
    """Ends all workers afterwards, so that no thread waits for one any more."""
    try:
        yield
    finally:
        for worker in tuple(workers):
            worker.process.kill()


def _start(
    context: ForkServerContext, function: Callable[[Item], Result]
) -> _Worker[Item, Result]:
    connection, other_end = context.Pipe()
    process = context.Process(target=_answer, args=(other_end, function), daemon=True)
    process.start()
    other_end.close()  # Only the process has it: if the process ends, reading ends.
    return _Worker(process, connection)


def _ask(
    worker: _Worker[Item, Result], item: Item, *, seconds: float
) -> Result | Failure:
    """Returns the answer of a worker, which has ended if it gave none in time."""
    try:
        worker.connection.send(item)
        if worker.connection.poll(seconds):
            answer: Result | Failure = worker.connection.recv()
            return answer
    except (EOFError, OSError):  # Its process has ended.
        worker.process.join()
        return Failure(f"crashes ({_describe(worker.process.exitcode)})")
    worker.process.kill()
    worker.process.join()
    return Failure(f"takes more than {seconds:g} seconds")


def _describe(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def _answer(connection: Connection, function: Callable[[Item], Result]) -> None:
    """Answers the items of a connection until it is closed; runs in the process."""
    parallel.start_worker(needs_tensorflow=False)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        answer: Result | Failure
        try:
            answer = function(item)
        # Extensions in Rust raise errors that are no Exception.
        except BaseException as error:
            answer = Failure(f"fails: {type(error).__name__}")
        connection.send(answer)
