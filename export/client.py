"""`python -m export.client IMAGES...`: asks a server what is on photographs.

The server is TensorFlow Serving or export.serve, over gRPC or REST. Of the model it
needs the signature serving_default as export.main writes it.
"""

import functools
import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable

import grpc
from absl import flags
from PIL import Image

from export.protocol import messages
from export.protocol.status import StatusError
from export.remote import classify, transports
from pipeline.system import command_line, console

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
_ADVICE = {
    4: "a larger --timeout or a smaller --batch_size gives it the time",
    5: "is the model there? --health tells which versions are served",
    8: "a smaller --batch_size makes smaller requests",
    transports.UNAVAILABLE: "is the server up, and is it this --protocol that the port speaks?",
}


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
        line = f"{messages.MODEL_NAME} version {version['version']}: {version['state']}"
        print(f"{line}, {message}" if message else line)
    return any(v["state"] == "AVAILABLE" for v in found["model_version_status"])


def _print_metadata(found: dict) -> None:
    print(f"{messages.MODEL_NAME} version {found['model_spec']['version']}")
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
    predict = functools.partial(transports.predict_by_rest, server)
    look = functools.partial(transports.look_by_rest, server)
    if channel:
        predict = functools.partial(transports.predict_by_grpc, channel)
        look = functools.partial(transports.look_by_grpc, channel)
    if FLAGS.health:
        return _print_health(look("status", FLAGS.timeout))
    if FLAGS.metadata:
        _print_metadata(look("metadata", FLAGS.timeout))
        return True
    paths = classify.find_images(arguments)
    if not paths:
        raise ValueError(
            "Photographs are named on the command line, or folders of them. Received: "
            f"{' '.join(arguments) or 'none'}"
        )
    replies = classify.classify(
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
        channel = grpc.insecure_channel(server, options=transports.CHANNEL_OPTIONS)
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


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
