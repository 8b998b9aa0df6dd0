"""What a person sees while a command runs."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator

from absl import logging

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def quiet_tensorflow_import() -> Iterator[None]:
    """Hides what TensorFlow's libraries write to stderr while they load.

    They do so before any log level applies, so only the file descriptor can be moved
    aside. Python exceptions pass through. Later messages show from WARNING (Python) and
    ERROR (C++) upwards.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.WARNING)  # TFDS tells every file it opens
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def track(items: Iterable, *, total: int, label: str, unit: str) -> Iterator:
    """Yields the items and shows progress with a rate and the remaining time.

    A bar on a terminal; elsewhere a plain line every ten seconds and one at the end.
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
            rate = done / max(now - start, 1e-9)
            line = f"{label}: {done}/{total} {unit}, {rate:.0f} {unit}/s"
            print(line, file=sys.stderr, flush=True)
            last = now


def fail(program: str, error: BaseException) -> None:
    """Ends the process with status 1 and the error as one line on stderr."""
    line = " ".join(str(error).split()) or "interrupted"
    sys.stdout.flush()  # in a pipe, what came before would otherwise come after
    sys.exit(f"{program}: error: {line}")
