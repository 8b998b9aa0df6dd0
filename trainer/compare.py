"""Compares finished runs on their test photographs: `python -m trainer.compare A B`.

Name two or more run directories (--model_dir of trainer.main). Each run is compared
with the first: a table, whether the difference is beyond chance, which settings differ,
and a page compare.html that shows the photographs whose answer changed.
"""

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
    from trainer.comparison import wording, write
    from trainer.comparison.safe_text import printable

    try:
        outcome = write.compare(argv[1:], FLAGS.out)
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("trainer.compare", error)
    runs, comparisons = outcome.runs, outcome.comparisons
    for run in runs:
        print(f"{run.letter}  {printable(str(run.path))}")
    print(
        f"{len(runs[0].names)} test photographs, {len(runs[0].classes)} classes; in "
        "brackets the 95 % interval\n\n"
        f"{wording.make_table(runs, outcome.figures, comparisons)}"
    )
    for comparison in comparisons:
        print(
            f"\n{wording.describe_outcome(comparison)}\n"
            f"{wording.describe_changes(comparison)}\n"
            f"{wording.describe_settings(comparison)}"
        )
    print(
        f"\npage:  {printable(str(outcome.page))}\n"
        f"table: {printable(str(outcome.table))}"
    )


def run_command() -> None:
    """Runs the command line; flags may stand before and behind the runs."""
    FLAGS.set_gnu_getopt()
    command_line.run(main)


if __name__ == "__main__":
    run_command()
