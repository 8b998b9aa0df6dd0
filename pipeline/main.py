"""`python -m pipeline.main --source=PHOTOS --out=DATA`: prepares a data set."""

from absl import app, flags

from pipeline import console

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "source",
    None,
    "Where the images come from: a folder that holds one folder a class, or the word "
    "'sample' for the embedded sample of five drawn flowers.",
    required=True,
)
flags.DEFINE_string("out", None, "The directory to write.", required=True)
flags.DEFINE_list(
    "splits", ["0.8", "0.1", "0.1"], "Shares of train, validation and test."
)
flags.DEFINE_integer(
    "shards", None, "TFRecord files of each split. Default: chosen by size."
)
flags.DEFINE_integer("seed", 1, "Decides which images go into which split.")
flags.DEFINE_bool("overwrite", False, "Replace an existing --out.")


def _fractions(values: list[str]) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError:
        raise ValueError(
            "--splits must be three numbers. Received: --splits=" + ",".join(values)
        ) from None


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected words. Received: {' '.join(argv[1:])}")
    with console.quiet_tensorflow_import():
        from pipeline import prepare
    try:
        prepare.prepare(
            FLAGS.source,
            FLAGS.out,
            fractions=_fractions(FLAGS.splits),
            num_shards=FLAGS.shards,
            seed=FLAGS.seed,
            overwrite=FLAGS.overwrite,
        )
    except (ValueError, OSError) as error:
        console.fail("pipeline.main", error)


if __name__ == "__main__":
    app.run(main)
