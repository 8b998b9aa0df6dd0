"""Sends images to a server in batches, retries, and makes one row per image.

Retries are written here, because no library does all of it. The retryPolicy of gRPC
makes at most 5 attempts and does not retry a request larger than its retry buffer (256
KiB by default), which a batch of photographs exceeds. urllib3.Retry has no deadline for
all attempts together. Neither reports that the server has not answered yet.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NotRequired, TypedDict, TypeVar, cast

from export.protocol.status import Code, StatusError
from export.remote import image_files
from pipeline.inspection.reencoding import StoredForm
from pipeline.system import texts

# Sends images, with the seconds until the deadline and, by name, the signature; see
# transports.predict_by_grpc.
Predict = Callable[..., dict[str, list]]

Outputs = TypeVar("Outputs")

_OUTPUTS = ("probabilities", "class_id", "label", "decode_ok")
# Versions that were exported before 0.3 do not have these.
_NEWER_OUTPUTS = ("in_set", "unknown_score", "is_unknown")

# Pauses between attempts double from the first to the longest.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0
# The number of retries before the user is told: the pauses take 1.5 seconds.
_QUIET_RETRIES = 4


class Row(TypedDict):
    """The result of one image, in the order of the keys in the output.

    name: path of the file.
    decode_ok, label, class_id, probabilities: outputs of serving_default.
    in_set, unknown_score, is_unknown: the same; versions that were exported before 0.3
      lack them.
    probability: the largest of the probabilities.
    error: why the image has no class. If the file could not be read, the row has only
      this and the name.
    """

    name: str
    decode_ok: NotRequired[bool]
    label: NotRequired[str]
    class_id: NotRequired[int]
    probability: NotRequired[float]
    probabilities: NotRequired[list[float]]
    in_set: NotRequired[list[bool]]
    unknown_score: NotRequired[float]
    is_unknown: NotRequired[bool]
    error: NotRequired[str]


@dataclasses.dataclass(frozen=True)
class Reply:
    """The results of one batch.

    rows: one for each image, in the order of the batch.
    seconds: from the first attempt to the answer; 0 if no file could be read, so that
      nothing was sent.
    """

    rows: list[Row]
    seconds: float


def classify(
    predict: Predict,
    paths: Sequence[str],
    *,
    batch_size: int,
    in_flight: int,
    seconds: float,
) -> Iterator[Reply]:
    """Yields the replies in the order of the paths, whichever comes first.

    The thread that sends a batch reads its files, so that the memory holds at most
    `in_flight` batches.

    in_flight: number of requests at the same time.
    seconds: for one batch, retries included.

    Raises:
      StatusError: the server does not answer a batch. All earlier batches have been
        yielded.
    """
    stop = threading.Event()
    find_form = functools.cache(
        functools.partial(ask_for_stored_form, predict, seconds, stop)
    )
    send = functools.partial(classify_batch, find_form=find_form)
    pool = concurrent.futures.ThreadPoolExecutor(in_flight)
    pending: collections.deque[
        tuple[Sequence[str], concurrent.futures.Future[Reply]]
    ] = collections.deque()
    try:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            future = pool.submit(send, predict, batch, seconds, stop)
            pending.append((batch, future))
            # Other batches are sent while the first one is slow. Replies are small.
            if len(pending) > 4 * in_flight:
                yield _wait_for_reply(*pending.popleft())
        while pending:
            yield _wait_for_reply(*pending.popleft())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _wait_for_reply(
    paths: Sequence[str], future: concurrent.futures.Future[Reply]
) -> Reply:
    try:
        return future.result()
    except StatusError as error:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise StatusError(
            error.code, f"no answer for {paths[0]}{more}: {error.message}"
        ) from error


def classify_batch(
    predict: Predict,
    paths: Sequence[str],
    seconds: float,
    stop: threading.Event,
    *,
    find_form: Callable[[], StoredForm],
) -> Reply:
    """Reads and sends one batch.

    stop: ends the retries when it is set.
    find_form: see image_files.read_as_stored.

    Raises:
      StatusError: the server does not answer, or not with the outputs of an export.
    """
    images: list[bytes] = []
    sent_paths: list[str] = []
    unread_rows: dict[int, Row] = {}
    for index, path in enumerate(paths):
        try:
            images.append(image_files.read_as_stored(path, find_form))
            sent_paths.append(path)
        except OSError as error:
            unread_rows[index] = {"name": path, "error": error.strerror or str(error)}
    if not images:
        return Reply(list(unread_rows.values()), 0.0)
    start = time.monotonic()
    outputs = call_with_retries(predict, images, seconds, stop)
    took_seconds = time.monotonic() - start
    sent_rows = iter(_make_rows(sent_paths, outputs))
    rows = [
        unread_rows[index] if index in unread_rows else next(sent_rows)
        for index in range(len(paths))
    ]
    return Reply(rows, took_seconds)


def ask_for_stored_form(
    predict: Predict, seconds: float, stop: threading.Event
) -> StoredForm:
    """Asks the model how its training images were stored.

    seconds, stop: see call_with_retries.

    Returns:
      The form. That of a version of before 0.3, which cannot tell, is StoredForm().

    Raises:
      StatusError: the server does not answer in time, or answers with another error.
    """
    ask = functools.partial(predict, signature="preparation")
    try:
        outputs = call_with_retries(ask, [b""], seconds, stop)
    except StatusError as error:
        if error.code in (Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT):
            return StoredForm()
        raise
    try:
        (background,), (sample_bits,) = outputs["background"], outputs["sample_bits"]
    except (KeyError, ValueError):
        return StoredForm()
    return StoredForm(background=background, sample_bits=sample_bits)


def _make_rows(paths: Sequence[str], outputs: dict[str, list]) -> list[Row]:
    newer_outputs = [key for key in _NEWER_OUTPUTS if key in outputs]
    for key in (*_OUTPUTS, *newer_outputs):
        values = outputs.get(key)
        if not isinstance(values, list) or len(values) != len(paths):
            raise StatusError(
                Code.INTERNAL,
                f"serving_default must return {', '.join(_OUTPUTS)} for each image. "
                f"Received: {', '.join(sorted(outputs)) or 'none of them'}",
            )
    rows: list[Row] = []
    for index, path in enumerate(paths):
        row: Row = {
            "name": path,
            "decode_ok": outputs["decode_ok"][index],
            "label": outputs["label"][index],
            "class_id": outputs["class_id"][index],
            "probability": max(outputs["probabilities"][index]),
            "probabilities": outputs["probabilities"][index],
        }
        row |= cast(Row, {key: outputs[key][index] for key in newer_outputs})
        if not row["decode_ok"]:
            row["error"] = "not decodable"
        rows.append(row)
    return rows


def call_with_retries(
    predict: Callable[[list[bytes], float], Outputs],
    images: list[bytes],
    seconds: float,
    stop: threading.Event,
) -> Outputs:
    """Sends images until the server answers.

    Args:
      predict: sends images, with the seconds until the deadline.
      seconds: for all attempts together.
      stop: ends the retries when it is set.

    Raises:
      StatusError: the server does not answer in time, or answers with an error.
    """
    deadline = time.monotonic() + seconds
    attempt = 0
    while True:
        try:
            return predict(images, max(deadline - time.monotonic(), 0.001))
        except StatusError as error:
            pause_seconds = min(
                _FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS
            )
            # Random, so that clients that failed together do not retry together.
            pause_seconds *= random.uniform(0.5, 1.0)
            remaining_seconds = deadline - time.monotonic()
            if error.code != Code.UNAVAILABLE or remaining_seconds < pause_seconds:
                raise
            if attempt == _QUIET_RETRIES:
                _print_once(f"not answered yet: {error.message}")
            if stop.wait(pause_seconds):
                raise
        attempt += 1


@functools.cache
def _print_once(line: str) -> None:
    print(texts.escape_controls(line), file=sys.stderr, flush=True)
