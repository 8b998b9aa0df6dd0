"""`python -m pipeline.main --source=PHOTOS --out=DATA`: prepares a data set."""

import shlex

from absl import flags

from pipeline.prepare import Rules
from pipeline.system import command_line, console
from pipeline.system.beam import BeamRunner

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "source",
    None,
    "Where the images come from: a folder that holds one folder a class, a .zip of one,"
    " csv:FILE (columns path, label and optionally split, group), kaggle:OWNER/NAME, "
    "tfds:NAME, or sample (five drawn flowers).",
    required=True,
)
flags.DEFINE_string("out", None, "The directory to write.")
flags.DEFINE_bool(
    "audit_only", False, "Only look and report; writes audit.html, into --out if given."
)
flags.DEFINE_bool("strict", False, "Findings end in a failing exit status.")
flags.DEFINE_list(
    "splits", ["0.8", "0.1", "0.1"], "Shares of train, validation and test."
)
flags.DEFINE_integer("folds", 0, "Write this many folds instead, OUT/fold-0 and so on.")
flags.DEFINE_string("splits_from", None, "Repeat the splits of this splits.csv.")
flags.DEFINE_bool("resplit", False, "Do not use the splits that the source came with.")
flags.DEFINE_enum(
    "conflicts",
    "drop",
    ["drop", "keep", "fail"],
    "What happens to a picture that is filed under several classes.",
)
flags.DEFINE_integer("min_side_px", 16, "Smaller images are left out.", 1)
flags.DEFINE_integer(
    "max_side_px", None, "Larger images are stored smaller. Default: as they are.", 1
)
flags.DEFINE_integer(
    "shards", None, "TFRecord files of each split. Default: chosen by size.", 1
)
flags.DEFINE_string(
    "beam_runner",
    None,
    "Look and write on Apache Beam: DirectRunner, FlinkRunner, SparkRunner, "
    "DataflowRunner, ...",
)
flags.DEFINE_string(
    "beam_options", "", "Options of the runner, as on Beam's own command line."
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
        words = " ".join(argv[1:])
        console.fail(
            "pipeline.main", ValueError(f"Unexpected words. Received: {words}")
        )
    if FLAGS.out is None and not FLAGS.audit_only:
        error = ValueError(
            f"--out is needed, or --audit_only. Received: --out={FLAGS.out}"
        )
        console.fail("pipeline.main", error)
    from pipeline import prepare

    try:
        if FLAGS.folds and FLAGS["splits"].present:
            raise ValueError(
                "--folds has shares of its own. Received: "
                f"--folds={FLAGS.folds} --splits={','.join(FLAGS.splits)}"
            )
        if FLAGS.max_side_px is not None and FLAGS.max_side_px < FLAGS.min_side_px:
            raise ValueError(
                "What is stored must not be smaller than what is left out. Received: "
                f"--max_side_px={FLAGS.max_side_px} --min_side_px={FLAGS.min_side_px}"
            )
        rules = Rules(
            min_side_px=FLAGS.min_side_px,
            max_side_px=FLAGS.max_side_px,
            conflicts=FLAGS.conflicts,
        )
        engine = None
        if FLAGS.beam_runner is not None:
            options = tuple(shlex.split(FLAGS.beam_options))
            engine = BeamRunner(FLAGS.beam_runner, options)
            engine.pipeline_options()
        if FLAGS.audit_only:
            prepare.audit_only(
                FLAGS.source,
                FLAGS.out or ".",
                seed=FLAGS.seed,
                rules=rules,
                strict=FLAGS.strict,
                engine=engine,
            )
        else:
            prepare.prepare(
                FLAGS.source,
                FLAGS.out,
                fractions=_fractions(FLAGS.splits),
                folds=FLAGS.folds,
                splits_from=FLAGS.splits_from,
                resplit=FLAGS.resplit,
                num_shards=FLAGS.shards,
                seed=FLAGS.seed,
                rules=rules,
                strict=FLAGS.strict,
                engine=engine,
                overwrite=FLAGS.overwrite,
            )
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("pipeline.main", error)


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
