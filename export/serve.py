"""`python -m export.serve --export_dir=EXPORT`: a small local server.

It answers as TensorFlow Serving does, over gRPC and REST, and needs no Docker. It is
for development and tests: it does not batch and was not built for the open internet.
"""

import asyncio
import importlib.util
import os
import warnings

from absl import flags
from PIL import Image

from export.local_server.log import log
from export.local_server.servers import serve
from pipeline.system import command_line, console

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "export_dir", None, "Directory whose versions are served.", required=True
)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
flags.DEFINE_integer("port", 8500, "Port of gRPC; 0 takes a free one.", 0, 65535)
flags.DEFINE_integer("rest_port", 8501, "Port of REST; 0 takes a free one.", 0, 65535)


def main(argv: list[str]) -> None:
    """Serves the directory that the flags name."""
    console.refuse_arguments("export.serve", argv)
    # The graph refuses an image that is too large; see local_server/limits.py.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as one line
    try:
        if importlib.util.find_spec("aiohttp") is None:
            raise ValueError(
                "aiohttp is missing. Install it: pip install -e '.[serve]'"
            )
        if not os.path.isdir(FLAGS.export_dir):
            raise ValueError(
                "--export_dir must be a directory that export.main has written. "
                f"Received: --export_dir={FLAGS.export_dir}, which does not exist."
            )
        log(
            "export.serve is for development and tests; in production, run TensorFlow "
            "Serving on the same directory"
        )
        asyncio.run(
            serve(
                FLAGS.export_dir,
                host=FLAGS.host,
                port=FLAGS.port,
                rest_port=FLAGS.rest_port,
            )
        )
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.serve", error)


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
