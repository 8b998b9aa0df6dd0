"""`python -m export.demo`: goes the whole way once, from drawn pictures to answers.

It runs the commands of a user, one after another, and prints each of them: training on
the embedded sample, a local server, and a client that classifies five new pictures.
"""

import contextlib
import datetime
import os
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence

from absl import flags

from pipeline.sources import drawn_flowers
from pipeline.system import command_line, console

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model_dir", None, "Directory of the run. Default: runs/demo-DATE-TIME."
)
flags.DEFINE_string(
    "backbone",
    None,
    "A backbone of keras.applications with ImageNet weights, instead of the small one "
    "whose weights are embedded; needs a network.",
)

# The sample has fewer images of a class, so no image of it has this index.
_NEW_INDEX = 1_000_000
_SERVING = re.compile(r"serving photographs: gRPC on (\S+),")


def main(argv: list[str]) -> None:
    """Runs the demo."""
    console.refuse_arguments("export.demo", argv)
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    model_dir = pathlib.Path(FLAGS.model_dir or os.path.join("runs", f"demo-{now}"))
    try:
        run_demo(model_dir, FLAGS.backbone)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # The command has printed its own error.
    except (OSError, ValueError, KeyboardInterrupt) as error:
        console.fail("export.demo", error)


def run_demo(model_dir: pathlib.Path, backbone: str | None) -> None:
    """Trains, serves and classifies; prints the commands and their output.

    Raises:
      subprocess.CalledProcessError: a command failed.
      ValueError: the server did not start.
    """
    training = ["trainer.main", "--source=sample", f"--model_dir={model_dir}"]
    if backbone is not None:
        training.append(f"--backbone={backbone}")
    subprocess.run(_command(training), check=True)
    pictures = model_dir / "new_pictures"
    pictures.mkdir(exist_ok=True)
    for label in drawn_flowers.CLASSES:
        (pictures / f"{label}.jpg").write_bytes(
            drawn_flowers.draw_jpeg(label, _NEW_INDEX)
        )
    with _serve(model_dir / "export") as address:
        client = ["export.client", f"--server={address}", str(pictures)]
        subprocess.run(_command(client), check=True)
    print(
        f"\nThe server is stopped. Report: {model_dir / 'report.html'}. Model: "
        f"{model_dir / 'export'}.\n"
        "The same for your own photographs, one folder per class in PHOTOS:\n"
        "  python -m trainer.main --source=PHOTOS --model_dir=RUN\n"
        "  python -m export.serve --export_dir=RUN/export\n"
        "  python -m export.client PHOTOS"
    )


@contextlib.contextmanager
def _serve(export_dir: pathlib.Path) -> Iterator[str]:
    """Runs the local server on free ports; yields HOST:PORT of gRPC."""
    command = _command(
        ["export.serve", f"--export_dir={export_dir}", "--port=0", "--rest_port=0"]
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            lines = []
            for line in server.stdout or ():
                lines.append(line.strip())
                if found := _SERVING.search(line):
                    print(line.strip(), flush=True)
                    yield found[1]
                    break
            else:
                raise ValueError(f"the server did not start: {' '.join(lines)}")
        finally:
            server.terminate()
            server.communicate()  # It says that it stops, and a pipe must take it.


def _command(words: Sequence[str]) -> list[str]:
    """Prints a command of this project as a user types it, and returns it."""
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    return [sys.executable, "-m", *words]


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
