"""Prints progress and error messages, and hides what TensorFlow prints at import."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn, TextIO, TypeVar

from absl import logging

from pipeline.system import texts

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def quiet_tensorflow_import() -> Iterator[None]:
    """Hides what the libraries of TensorFlow write to stderr while they load.

    They write before any log level applies, so file descriptor 2 is redirected for a
    moment. Python exceptions pass through. Later messages of Python are shown from
    WARNING upwards.
    """
    # One process needs no log of C++: its errors arrive as exceptions, and what else
    # TensorFlow calls an error is none, such as an operation that oneDNN has not. Of
    # several workers, the log tells which one failed first.
    log_level = "2" if "TF_CONFIG" in os.environ else "3"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", log_level)
    logging.set_verbosity(logging.WARNING)  # TFDS logs every file that it opens.
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def hide_lines_of_libraries() -> Iterator[None]:
    """Hides what libraries in C write to stderr; lines of Python are shown.

    libjpeg writes "Corrupt JPEG data" without saying which photograph it means.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with contextlib.ExitStack() as stack:
            if _is_descriptor_2(sys.stderr):
                shown = stack.enter_context(
                    open(os.dup(saved), "w", buffering=1, errors="backslashreplace")
                )
                stack.enter_context(contextlib.redirect_stderr(shown))
            sink = stack.enter_context(open(os.devnull, "wb"))
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _is_descriptor_2(file: TextIO) -> bool:
    try:
        return file.fileno() == 2
    except OSError:  # A file in memory.
        return False


def track(
    items: Iterable[Item], *, total: int, label: str, unit: str
) -> Iterator[Item]:
    """Yields the items and shows the progress, the rate and the remaining time.

    On a terminal this is a bar. Elsewhere it is a plain line every ten seconds, and one
    at the end.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last > _SECONDS_BETWEEN_LINES:
            line = f"{label}: {done}/{total} {unit}"
            if now - start > 1:  # A shorter time is no measurement.
                line += f", {_format_rate(done / (now - start))} {unit}/s"
            print(line, file=sys.stderr, flush=True)
            last = now


@contextlib.contextmanager
def show_elapsed(label: str) -> Iterator[Callable[[str], None]]:
    """Prints a line every ten seconds while the block runs: it is still at work.

    It is for one long call that tells nothing of its progress; see track for items.

    Yields:
      A function that sets what the next lines say of the progress.
    """
    progress = ""
    start = time.monotonic()
    done = threading.Event()

    def set_progress(text: str) -> None:
        nonlocal progress
        progress = f"{text}, "

    def print_lines() -> None:
        while not done.wait(_SECONDS_BETWEEN_LINES):
            line = f"{label}: {progress}{time.monotonic() - start:.0f} s"
            print(line, file=sys.stderr, flush=True)

    thread = threading.Thread(target=print_lines, daemon=True)
    thread.start()
    try:
        yield set_progress
    finally:
        done.set()
        thread.join()


def _format_rate(rate: float) -> str:
    """Returns a rate as a whole number; a small one with two digits, so not as 0."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def refuse_arguments(program: str, argv: Sequence[str]) -> None:
    """Ends the process with one line if there are arguments that are not flags.

    argv: the arguments that remain after the flags; the first one is the program.
    """
    if len(argv) > 1:
        words = " ".join(argv[1:])
        fail(
            program,
            ValueError(
                f"Unexpected words. Received: {words}. Every argument must be a flag, "
                "such as --flag=value; see --help."
            ),
        )


def fail(program: str, error: BaseException) -> NoReturn:
    """Ends the process with status 1 and prints the error as one line on stderr."""
    line = texts.escape_controls(" ".join(str(error).split())) or "interrupted"
    sys.stdout.flush()  # In a pipe, stdout would otherwise appear after stderr.
    sys.exit(f"{program}: error: {line}")
