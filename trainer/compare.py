"""Compares finished runs on their test photographs: `python -m trainer.compare A B`.

Name two or more run directories (--model_dir of trainer.main). Each run is compared
with the first: a table, whether the difference is beyond chance, which settings differ,
and a page compare.html that shows the photographs whose answer changed.
"""

import os
import sys

from absl import flags

from pipeline.system import command_line, console

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "out",
    ".",
    "Where to write: a directory, which gets compare.html and compare.csv, or a file "
    "NAME.html, which gets NAME.csv beside it. An older comparison is replaced.",
)


def main(argv: list[str]) -> None:
    """Compares the runs, prints the outcome and writes the page."""
    from pipeline.system.texts import escape_controls
    from trainer.comparison import wording, write

    try:
        outcome = write.compare(argv[1:], FLAGS.out)
        text = wording.describe_runs(outcome.runs, outcome.figures, outcome.comparisons)
        page, table = (escape_controls(str(p)) for p in (outcome.page, outcome.table))
        print(f"{text}\n\npage:  {page}\ntable: {table}", flush=True)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has ended. Without the redirection
        # Python would fail again when it flushes stdout at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("trainer.compare", error)


def run_command() -> None:
    """Runs the command line; flags may stand before and behind the runs."""
    FLAGS.set_gnu_getopt()
    command_line.run(main)


if __name__ == "__main__":
    run_command()
