"""`python -m export.client IMAGES...`: asks a server what is on photographs.

The server is TensorFlow Serving or export.serve, over gRPC or REST. Of the model it
needs the signature serving_default as export.main writes it.
"""

import base64
import collections
import concurrent.futures
import dataclasses
import functools
import http.client
import itertools
import json
import math
import os
import random
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import grpc
import numpy as np
from absl import app, flags
from PIL import Image

from export import protos
from export.protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)
from export.session import StatusError
from pipeline import console, stored

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "server",
    None,
    "HOST:PORT of the server; by default port 8500 (gRPC) or 8501 (REST) of localhost.",
)
flags.DEFINE_enum("protocol", "grpc", ["grpc", "rest"], "How to speak to it.")
flags.DEFINE_integer(
    "batch_size",
    8,
    "Photographs in one request; TensorFlow Serving with an export's files takes 32.",
    1,
)
flags.DEFINE_integer("in_flight", 4, "Requests at the same time.", 1, 256)
flags.DEFINE_float("timeout", 30.0, "Seconds for a request, retries included.", 0.001)
flags.DEFINE_bool("json", False, "One JSON object a photograph instead of a table.")
flags.DEFINE_bool("health", False, "Only say whether a version is available.")
flags.DEFINE_bool("metadata", False, "Only print what the model takes and gives.")
flags.DEFINE_bool("bench", False, "Print the speed instead of the results.")
flags.DEFINE_integer("repeat", 1, "With --bench: times that each image is sent.", 1)

# What pipeline.main reads, by name.
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp")

_OUTPUTS = ("probabilities", "class_id", "label", "decode_ok")
_UNAVAILABLE, _INTERNAL = 14, 13
_STATUS_OF_HTTP = {400: 3, 404: 5, 413: 8, 429: 8, 501: 12, 503: _UNAVAILABLE, 504: 4}
_ADVICE = {
    4: "a larger --timeout or a smaller --batch_size gives it the time",
    5: "is the model there? --health tells which versions are served",
    8: "a smaller --batch_size makes smaller requests",
    _UNAVAILABLE: "is the server up, and is it this --protocol that the port speaks?",
}

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A proxy for web pages is none for a server next door.
    ("grpc.enable_http_proxy", 0),
    # How often is tried again is decided here.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

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


# The protocols: functions of (server, what is asked, seconds it may take), which raise
# StatusError.


def _spec() -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(name=protos.MODEL_NAME)


def _grpc_call(stub: type, channel: grpc.Channel, method: str, request, seconds: float):
    try:
        return getattr(stub(channel), method)(request, timeout=seconds)
    except grpc.RpcError as error:
        raise StatusError(error.code().value[0], error.details()) from error


def predict_by_grpc(
    channel: grpc.Channel, images: list[bytes], seconds: float
) -> dict[str, list]:
    """Images -> each output of serving_default, one element an image."""
    request = predict_pb2.PredictRequest(model_spec=_spec())
    request.inputs["image_bytes"].CopyFrom(protos.to_proto(np.array(images, object)))
    stub = protos.prediction_service_pb2_grpc.PredictionServiceStub
    response = _grpc_call(stub, channel, "Predict", request, seconds)
    arrays = {key: protos.to_array(each) for key, each in response.outputs.items()}
    if "label" in arrays:
        labels = arrays["label"].ravel()
        arrays["label"] = np.array([each.decode("utf-8", "replace") for each in labels])
    if "probabilities" in arrays:
        # By way of text, so that 0.2 stays 0.2 as it does over REST.
        arrays["probabilities"] = arrays["probabilities"].astype(str).astype(float)
    return {key: array.tolist() for key, array in arrays.items()}


def look_by_grpc(channel: grpc.Channel, what: str, seconds: float) -> dict:
    """The server's status or metadata, as REST would give them."""
    if what == "status":
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec())
        stub = protos.model_service_pb2_grpc.ModelServiceStub
        return protos.to_dict(
            _grpc_call(stub, channel, "GetModelStatus", request, seconds)
        )
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=_spec(), metadata_field=["signature_def"]
    )
    stub = protos.prediction_service_pb2_grpc.PredictionServiceStub
    found = _grpc_call(stub, channel, "GetModelMetadata", request, seconds)
    return protos.metadata_to_dict(found)


def _rest_call(server: str, verb: str, path: str, body: str | None, seconds: float):
    connection = http.client.HTTPConnection(server, timeout=seconds)
    try:
        connection.request(verb, f"/v1/models/{protos.MODEL_NAME}{path}", body)
        response = connection.getresponse()
        text = response.read()
        reply = json.loads(text)
    except TimeoutError as error:
        raise StatusError(4, "Deadline Exceeded") from error
    except (ConnectionError, http.client.HTTPException, socket.gaierror) as error:
        # What another protocol says is not for a terminal.
        line = str(error) if str(error).isprintable() else ""
        raise StatusError(_UNAVAILABLE, line or type(error).__name__) from error
    except ValueError:
        reply = None
    finally:
        connection.close()
    if not isinstance(reply, dict):
        raise StatusError(
            _STATUS_OF_HTTP.get(response.status, _INTERNAL),
            f"status {response.status} and no JSON object: {text[:80]!r}",
        )
    if response.status != 200:
        code = _STATUS_OF_HTTP.get(response.status, _INTERNAL)
        raise StatusError(code, f"{reply.get('error', reply)}")
    return reply


def predict_by_rest(
    server: str, images: list[bytes], seconds: float
) -> dict[str, list]:
    """Images -> each output of serving_default, one element an image."""
    encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
    body = json.dumps({"inputs": encoded})
    outputs = _rest_call(server, "POST", ":predict", body, seconds).get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def look_by_rest(server: str, what: str, seconds: float) -> dict:
    """The server's status or metadata."""
    path = "/metadata" if what == "metadata" else ""
    return _rest_call(server, "GET", path, None, seconds)


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
        return stored.stored_bytes(image_bytes, max_side_px=None)
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
            if error.code != _UNAVAILABLE or left < pause:
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
                _INTERNAL,
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


# What is printed.


def _print_rows(rows: Iterable[dict], *, width: int, as_json: bool) -> bool:
    """Returns whether every photograph was classified."""
    all_classified = True
    for index, row in enumerate(rows):
        all_classified &= "error" not in row
        if not index and not as_json:
            print(f"{'photograph':<{width}}  probability  label")
        if as_json:
            print(json.dumps(row), flush=True)
        elif "error" in row:
            print(f"{row['name']:<{width}}  {row['error']}", flush=True)
        else:
            line = f"{row['name']:<{width}}  {row['probability']:11.4f}  {row['label']}"
            print(line, flush=True)
    return all_classified


def _print_speed(seconds: list[float], *, images: int, total_seconds: float) -> None:
    ordered = sorted(seconds)
    ranks = {p: ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in (50, 90, 99)}
    percentiles = ", ".join(f"p{p} {1000 * ranks[p]:.1f} ms" for p in ranks)
    print(f"{images / total_seconds:.1f} images/s: {images} in {total_seconds:.2f} s")
    print(f"{len(ordered)} requests: {percentiles}")


def _print_health(found: dict) -> bool:
    """Returns whether a version is available."""
    for version in found.get("model_version_status", []):
        message = version["status"]["error_message"]
        line = f"{protos.MODEL_NAME} version {version['version']}: {version['state']}"
        print(f"{line}, {message}" if message else line)
    return any(v["state"] == "AVAILABLE" for v in found["model_version_status"])


def _print_metadata(found: dict) -> None:
    print(f"{protos.MODEL_NAME} version {found['model_spec']['version']}")
    signatures = found["metadata"]["signature_def"]["signature_def"]
    for name, signature in sorted(signatures.items()):
        print(f"{name} ({signature['method_name']})")
        for side, word in (("inputs", "takes"), ("outputs", "gives")):
            for key, info in sorted(signature.get(side, {}).items()):
                dtype = info["dtype"].removeprefix("DT_").lower()
                sizes = [int(each["size"]) for each in info["tensor_shape"]["dim"]]
                print(f"  {word} {key}: {dtype} {sizes}")


def run(arguments: list[str], server: str, channel: grpc.Channel | None) -> bool:
    """Does what the flags ask for; channel is the server's, unless REST is spoken.

    Returns:
      Whether all went well.

    Raises:
      StatusError: the server does not answer.
      ValueError: there is nothing to send.
    """
    predict = functools.partial(predict_by_rest, server)
    look = functools.partial(look_by_rest, server)
    if channel:
        predict = functools.partial(predict_by_grpc, channel)
        look = functools.partial(look_by_grpc, channel)
    if FLAGS.health:
        return _print_health(look("status", FLAGS.timeout))
    if FLAGS.metadata:
        _print_metadata(look("metadata", FLAGS.timeout))
        return True
    paths = find_images(arguments)
    if not paths:
        raise ValueError(
            "Photographs are named on the command line, or folders of them. Received: "
            f"{' '.join(arguments) or 'none'}"
        )
    replies = classify(
        predict,
        paths * (FLAGS.repeat if FLAGS.bench else 1),
        batch_size=FLAGS.batch_size,
        in_flight=FLAGS.in_flight,
        seconds=FLAGS.timeout,
    )
    if FLAGS.bench:
        start = time.monotonic()
        done = list(replies)
        rows = [row for reply in done for row in reply.rows if "decode_ok" in row]
        if not rows:
            raise ValueError(f"No file could be read. Received: {' '.join(arguments)}")
        _print_speed(
            [reply.seconds for reply in done if reply.seconds],
            images=len(rows),
            total_seconds=time.monotonic() - start,
        )
        return all(row["decode_ok"] for row in rows)
    rows = (row for reply in replies for row in reply.rows)
    if not sys.stdout.isatty():
        rows = console.track(
            rows, total=len(paths), label="classify", unit="photographs"
        )
    width = max(len("photograph"), *map(len, paths))
    return _print_rows(rows, width=width, as_json=FLAGS.json)


def main(argv: list[str]) -> None:
    """See the module."""
    port = {"grpc": 8500, "rest": 8501}[FLAGS.protocol]
    server = FLAGS.server or f"localhost:{port}"
    match = re.fullmatch(r"[^/\s]+:(\d{1,5})", server)
    if not match or int(match[1]) > 65535:
        error = ValueError(f"--server is HOST:PORT. Received: --server={server}")
        console.fail("export.client", error)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    channel = None
    if FLAGS.protocol == "grpc":
        channel = grpc.insecure_channel(server, options=_CHANNEL_OPTIONS)
    try:
        all_well = run(argv[1:], server, channel)
        sys.stdout.flush()
    except StatusError as error:
        advice = f"; {_ADVICE[error.code]}" if error.code in _ADVICE else ""
        line = f"{server} ({FLAGS.protocol}): {error.message}{advice}"
        console.fail("export.client", ValueError(line))
    except BrokenPipeError:  # as `head` does when it has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        all_well = False
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.client", error)
    finally:
        if channel:
            channel.close()
    sys.exit(0 if all_well else 1)


if __name__ == "__main__":
    app.run(main)
