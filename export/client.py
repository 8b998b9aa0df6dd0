"""Classifies photographs with a server: `python -m export.client PHOTOGRAPHS...`.

The server is TensorFlow Serving or export.serve, over gRPC or REST. Its model must have
the signature serving_default that export.main writes.
"""

import functools
import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import grpc
from absl import flags
from PIL import Image

from export.protocol import messages
from export.protocol.status import Code, StatusError
from export.remote import classify, image_files, transports
from pipeline.system import command_line, console, texts

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "server",
    None,
    "HOST:PORT of the server; by default port 8500 (gRPC) or 8501 (REST) of localhost.",
)
flags.DEFINE_enum(
    "protocol", "grpc", ["grpc", "rest"], "Protocol of the server's port."
)
flags.DEFINE_integer(
    "batch_size",
    8,
    "Photographs in one request. TensorFlow Serving with the files of an export takes "
    "at most 32.",
    1,
)
flags.DEFINE_integer("in_flight", 4, "Number of requests at the same time.", 1, 256)
flags.DEFINE_float("timeout", 30.0, "Seconds for one request, retries included.", 0.001)
flags.DEFINE_bool(
    "json", False, "Print one JSON object per photograph instead of a table."
)
flags.DEFINE_bool("health", False, "Print the state of each version and exit.")
flags.DEFINE_bool(
    "metadata", False, "Print the inputs and outputs of each signature and exit."
)
flags.DEFINE_bool("bench", False, "Print the speed instead of the results.")
flags.DEFINE_integer(
    "repeat", 1, "With --bench: how many times each photograph is sent.", 1
)

# What the user can do about an error.
_ADVICE: dict[int, str] = {
    Code.DEADLINE_EXCEEDED: "try a larger --timeout or a smaller --batch_size",
    Code.NOT_FOUND: "--health prints the versions that the server has",
    Code.RESOURCE_EXHAUSTED: "a smaller --batch_size makes smaller requests",
    Code.UNAVAILABLE: "is the server up, and does its port have this --protocol?",
}


def main(argv: list[str]) -> None:
    """Runs what the flags ask for, and exits with 1 if a photograph has no class."""
    address = FLAGS.server or f"localhost:{8500 if FLAGS.protocol == 'grpc' else 8501}"
    match = re.fullmatch(r"[^/\s]+:(\d{1,5})", address)
    if not match or int(match[1]) > 65535:
        error = ValueError(f"--server must be HOST:PORT. Received: --server={address}")
        console.fail("export.client", error)
    # The size of an image is checked by the server.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    channel = None
    if FLAGS.protocol == "grpc":
        channel = grpc.insecure_channel(address, options=transports.CHANNEL_OPTIONS)
    try:
        succeeded = run(argv[1:], address, channel)
        sys.stdout.flush()
    except StatusError as error:
        advice = f"; {_ADVICE[error.code]}" if error.code in _ADVICE else ""
        line = f"{address} ({FLAGS.protocol}): {error.message}{advice}"
        console.fail("export.client", ValueError(line))
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has ended. Without the redirection
        # Python would fail again when it flushes stdout at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        succeeded = False
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.client", error)
    finally:
        if channel:
            channel.close()
    sys.exit(0 if succeeded else 1)


def run(arguments: Sequence[str], address: str, channel: grpc.Channel | None) -> bool:
    """Runs what the flags ask for.

    address: HOST:PORT of the server.
    channel: a channel to the server, or None for REST.

    Returns:
      True if a version is available (--health), or every photograph has a class.

    Raises:
      StatusError: the server does not answer, or answers with an error.
      ValueError: no photograph is named or readable.
    """
    predict: classify.Predict
    get_status: Callable[[float], dict]
    get_metadata: Callable[[float], dict]
    if channel:
        predict = functools.partial(transports.predict_by_grpc, channel)
        get_status = functools.partial(transports.get_status_by_grpc, channel)
        get_metadata = functools.partial(transports.get_metadata_by_grpc, channel)
    else:
        predict = functools.partial(transports.predict_by_rest, address)
        get_status = functools.partial(transports.get_status_by_rest, address)
        get_metadata = functools.partial(transports.get_metadata_by_rest, address)
    if FLAGS.health:
        return _print_health(get_status(FLAGS.timeout))
    if FLAGS.metadata:
        _print_metadata(get_metadata(FLAGS.timeout))
        return True
    paths = image_files.find_images(arguments)
    if FLAGS.bench:
        return _measure_speed(predict, paths)
    return _classify(predict, paths)


def _request_replies(
    predict: classify.Predict, paths: Sequence[str]
) -> Iterator[classify.Reply]:
    return classify.classify(
        predict,
        paths,
        batch_size=FLAGS.batch_size,
        in_flight=FLAGS.in_flight,
        seconds=FLAGS.timeout,
    )


def _classify(predict: classify.Predict, paths: Sequence[str]) -> bool:
    """Prints the result of each photograph; returns True if each one has a class."""
    replies = _request_replies(predict, paths)
    rows: Iterator[classify.Row] = (row for reply in replies for row in reply.rows)
    if not sys.stdout.isatty():
        rows = console.track(
            rows, total=len(paths), label="classify", unit="photographs"
        )
    width = max(len("photograph"), *(len(texts.escape_controls(p)) for p in paths))
    return _print_rows(rows, width=width, as_json=FLAGS.json)


def _print_rows(rows: Iterable[classify.Row], *, width: int, as_json: bool) -> bool:
    all_classified = True
    for index, row in enumerate(rows):
        all_classified &= "error" not in row
        if not index and not as_json:
            print(f"{'photograph':<{width}}  probability  label")
        if as_json:
            print(json.dumps(row), flush=True)
            continue
        result = row.get("error")
        if result is None:
            label = row["label"]
            if row.get("is_unknown"):
                label = f"unknown (best guess: {label})"
            result = f"{row['probability']:11.4f}  {label}"
        line = f"{texts.escape_controls(row['name']):<{width}}  "
        print(line + texts.escape_controls(result), flush=True)
    return all_classified


def _measure_speed(predict: classify.Predict, paths: Sequence[str]) -> bool:
    """Prints the speed of --bench; returns True if each readable file has a class."""
    start = time.monotonic()
    replies = list(_request_replies(predict, list(paths) * FLAGS.repeat))
    total_seconds = time.monotonic() - start
    rows = [row for reply in replies for row in reply.rows if "decode_ok" in row]
    if not rows:
        raise ValueError(
            f"No photograph could be read. Received: {len(paths)} files, the first is "
            f"{paths[0]}. Without --bench, the command says why for each of them."
        )
    _print_speed(
        [reply.seconds for reply in replies if reply.seconds],
        images=len(rows),
        total_seconds=total_seconds,
    )
    return all(row["decode_ok"] for row in rows)


def _print_speed(seconds: list[float], *, images: int, total_seconds: float) -> None:
    """Prints the rate of images and the percentiles (nearest rank) of the requests.

    seconds: of each request.
    """
    ordered = sorted(seconds)
    percentiles = ", ".join(
        f"p{percent} "
        f"{1000 * ordered[math.ceil(percent / 100 * len(ordered)) - 1]:.1f} ms"
        for percent in (50, 90, 99)
    )
    print(f"{images / total_seconds:.1f} images/s: {images} in {total_seconds:.2f} s")
    print(f"{len(ordered)} requests: {percentiles}")


def _print_health(status: dict) -> bool:
    """Prints the state of each version; returns True if a version is available.

    status: see transports.get_status_by_grpc.
    """
    versions = status.get("model_version_status", [])
    for version in versions:
        message = version["status"]["error_message"]
        line = f"{messages.MODEL_NAME} version {version['version']}: {version['state']}"
        _print_line(f"{line}, {message}" if message else line)
    return any(version["state"] == "AVAILABLE" for version in versions)


def _print_metadata(metadata: dict) -> None:
    """Prints the signatures; metadata: see transports.get_metadata_by_grpc."""
    _print_line(f"{messages.MODEL_NAME} version {metadata['model_spec']['version']}")
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    for name, signature in sorted(signatures.items()):
        _print_line(f"{name} ({signature['method_name']})")
        for side, verb in (("inputs", "takes"), ("outputs", "gives")):
            for key, info in sorted(signature.get(side, {}).items()):
                dtype = info["dtype"].removeprefix("DT_").lower()
                sizes = [int(dim["size"]) for dim in info["tensor_shape"]["dim"]]
                _print_line(f"  {verb} {key}: {dtype} {sizes}")


def _print_line(line: str) -> None:
    """Prints what a server has sent so that it cannot act on a terminal."""
    print(texts.escape_controls(line))


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
