"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import asyncio
import importlib.util
import os

from absl import flags

from export.local_server.log import say
from export.local_server.servers import (
    serve,
)
from pipeline.system import command_line, console

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "export_dir", None, "Directory whose versions are served.", required=True
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
flags.DEFINE_integer("port", 8500, "Port of gRPC; 0 takes a free one.", 0, 65535)
flags.DEFINE_integer("rest_port", 8501, "Port of REST; 0 takes a free one.", 0, 65535)


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) > 1:
        words = " ".join(argv[1:])
        console.fail("export.serve", ValueError(f"Unexpected words. Received: {words}"))
    say(
        "export.serve is for development and tests; in production, run TensorFlow "
        "Serving on the same directory"
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as one line
    try:
        if importlib.util.find_spec("aiohttp") is None:
            raise ValueError("aiohttp is missing; pip install -e .[serve] brings it")
        if not os.path.isdir(FLAGS.export_dir):
            raise ValueError(
                "--export_dir is a directory that export.main has written. Received: "
                f"{FLAGS.export_dir}"
            )
        options = {name: FLAGS[name].value for name in ("host", "port", "rest_port")}
        asyncio.run(serve(FLAGS.export_dir, **options))
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.serve", error)


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
