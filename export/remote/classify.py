"""`python -m export.client IMAGES...`: asks a server what is on photographs.

The server is TensorFlow Serving or export.serve, over gRPC or REST. Of the model it
needs the signature serving_default as export.main writes it.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

from export.protocol.status import StatusError
from export.remote import transports
from pipeline.inspection import reencoding

# What pipeline.main reads, by name.
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp")

_OUTPUTS = ("probabilities", "class_id", "label", "decode_ok")

_FIRST_PAUSE_SECONDS = 0.1
_QUIET_RETRIES = 4
_LONGEST_PAUSE_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Reply:
    """What became of a batch.

    rows: one dictionary a photograph; seconds: how long the server took, retries
    included.
    """

    rows: list[dict]
    seconds: float


# From files to rows.


def find_images(arguments: list[str]) -> list[str]:
    """Files as they are named and, of folders, what is named like an image.

    Says what it skips.
    """
    found = []
    for argument in arguments:
        if not os.path.isdir(argument):
            found.append(argument)
            continue
        for folder, folders, names in os.walk(argument):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if name.lower().endswith(_SUFFIXES):
                    found.append(path)
                else:
                    print(f"skipped, not named as an image: {path}", file=sys.stderr)
    return found


def read_upright(path: str) -> bytes:
    """A file as preparation would have stored it: upright by EXIF.

    Raises:
      OSError: it cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
        raise OSError(f"Not a file: {path}")
    with open(path, "rb") as file:
        image_bytes = file.read()
    try:
        return reencoding.bytes_to_store(image_bytes, max_side_px=None)
    # Pillow raises anything for a damaged file; what is wrong with it, the server says.
    except Exception:
        return image_bytes


def _with_retries(
    predict: Callable, images: list[bytes], seconds: float, stop: threading.Event
) -> dict:
    deadline = time.monotonic() + seconds
    for attempt in itertools.count():
        try:
            return predict(images, max(deadline - time.monotonic(), 0.001))
        except StatusError as error:
            pause = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            pause *= random.uniform(0.5, 1.0)  # so that clients do not come in step
            left = deadline - time.monotonic()
            if error.code != transports.UNAVAILABLE or left < pause:
                raise
            if attempt == _QUIET_RETRIES:
                _say_once(f"not answered yet: {error.message}")
            if stop.wait(pause):
                raise


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def classify_batch(
    predict: Callable, paths: list[str], seconds: float, stop: threading.Event
) -> Reply:
    """Reads, sends and explains one batch.

    Raises:
      StatusError: the server does not answer it.
    """
    rows, sent, images = [{"name": path} for path in paths], [], []
    for row in rows:
        try:
            images.append(read_upright(row["name"]))
            sent.append(row)
        except OSError as error:
            row["error"] = error.strerror or str(error)
    if not images:
        return Reply(rows, 0.0)
    start = time.monotonic()
    outputs = _with_retries(predict, images, seconds, stop)
    took = time.monotonic() - start
    for key in _OUTPUTS:
        found = outputs.get(key)
        if not isinstance(found, list) or len(found) != len(images):
            raise StatusError(
                transports.INTERNAL,
                f"serving_default gives {', '.join(_OUTPUTS)} for each image. "
                f"Received: {', '.join(sorted(outputs)) or 'none of them'}",
            )
    for index, row in enumerate(sent):
        row |= {key: outputs[key][index] for key in ("decode_ok", "label", "class_id")}
        row["probability"] = max(outputs["probabilities"][index])
        row["probabilities"] = outputs["probabilities"][index]
        if not row["decode_ok"]:
            row["error"] = "not decodable"
    return Reply(rows, took)


def classify(
    predict: Callable,
    paths: list[str],
    *,
    batch_size: int,
    in_flight: int,
    seconds: float,
) -> Iterator[Reply]:
    """The batches in the order of the files, however they come back.

    A file is read by the thread that sends it, so no more photographs than are in
    flight are ever in memory.

    Raises:
      StatusError: the server does not answer a batch; those before it have been given.
    """
    stop = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(in_flight)
    waiting = collections.deque()

    def first() -> Reply:
        batch, future = waiting.popleft()
        try:
            return future.result()
        except StatusError as error:
            more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
            raise StatusError(
                error.code, f"no answer for {batch[0]}{more}: {error.message}"
            ) from error

    try:
        for index in range(0, len(paths), batch_size):
            batch = paths[index : index + batch_size]
            future = pool.submit(classify_batch, predict, batch, seconds, stop)
            waiting.append((batch, future))
            # A slow batch at the head holds up nobody, and results are small.
            if len(waiting) > 4 * in_flight:
                yield first()
        while waiting:
            yield first()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
