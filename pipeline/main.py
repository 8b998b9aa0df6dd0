"""`python -m pipeline.main --source=PHOTOS --out=DATA`: prepares a data set."""

import shlex

from absl import flags

from pipeline.inspection.transparency import BACKGROUNDS
from pipeline.prepare import Rules
from pipeline.sources.csv_file import parse_columns
from pipeline.splits.assign import SplitPlan
from pipeline.system import command_line, console
from pipeline.system.beam import BeamRunner

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "source",
    None,
    "Where the images come from: a folder with one folder per class (or with train, "
    "validation and test folders of such folders), a .zip or .tar of one, "
    "csv:FILE (columns path, label and optionally split, group), kaggle:OWNER/NAME, "
    "tfds:NAME, or sample (five drawn flowers).",
    required=True,
)
flags.DEFINE_string("out", None, "The directory to write.")
flags.DEFINE_bool(
    "audit_only",
    False,
    "Only report: write audit.html and audit.csv, into --out or the current directory.",
)
flags.DEFINE_bool("strict", False, "End with an error if the audit has findings.")
flags.DEFINE_list(
    "splits", ["0.8", "0.1", "0.1"], "Shares of train, validation and test."
)
flags.DEFINE_integer("folds", 0, "Write this many folds: OUT/fold-0, OUT/fold-1 ...")
flags.DEFINE_string(
    "splits_from",
    None,
    "The images that this splits.csv lists keep their splits; new images are placed.",
)
flags.DEFINE_bool(
    "no_new",
    False,
    "With --splits_from: end with an error if the images are not exactly those listed.",
)
flags.DEFINE_enum(
    "small_classes",
    "fail",
    ["fail", "drop"],
    "For a class with too few images for every split: end with an error, or leave the "
    "class out.",
)
flags.DEFINE_bool("resplit", False, "Ignore the splits that the source assigns.")
flags.DEFINE_enum(
    "conflicts",
    "drop",
    ["drop", "keep", "fail"],
    "For a picture filed under several classes: drop all its images, keep each with "
    "its class, or fail.",
)
flags.DEFINE_string(
    "corrections",
    None,
    "Apply a file of corrected labels, as the page labels.html of trainer.check_labels "
    "saves it: CSV with the columns name, action (relabel, keep or drop) and label.",
)
flags.DEFINE_integer(
    "min_side_px", 16, "Leave out images with a shorter side than this.", 1
)
flags.DEFINE_integer(
    "max_side_px",
    None,
    "Store larger images smaller. Default: store the original files.",
    1,
)
flags.DEFINE_integer(
    "class_level",
    None,
    "The folder that is the class: 1 for the first one, 2 for the one in it ... "
    "Default: found out; an error if it is not clear.",
    1,
)
flags.DEFINE_list(
    "csv_columns",
    [],
    "Names of columns of csv:FILE, for example path=filename,label=species; also split "
    "and group.",
)
flags.DEFINE_integer(
    "sample_bits",
    None,
    "How many of the 16 bits the 16-bit images use, for example 12. Default: the most "
    "that any of them uses.",
    8,
    16,
)
flags.DEFINE_enum(
    "background",
    "white",
    list(BACKGROUNDS),
    "What is put behind transparent pixels; mean is the mean colour of the visible "
    "pixels of the image.",
)
flags.DEFINE_integer(
    "shards", None, "Number of TFRecord files per split. Default: by size.", 1
)
flags.DEFINE_string(
    "beam_runner",
    None,
    "Inspect and write with Apache Beam: DirectRunner, FlinkRunner, SparkRunner, "
    "DataflowRunner, ...",
)
flags.DEFINE_string(
    "beam_options", "", "Options of the runner, as on Beam's own command line."
)
flags.DEFINE_integer("seed", 1, "Decides which images go into which split.")
flags.DEFINE_bool("overwrite", False, "Replace an existing --out.")


def _fractions(values: list[str]) -> tuple[float, float, float]:
    try:
        train, validation, test = map(float, values)
    except ValueError:
        raise ValueError(
            "--splits must be three numbers, such as 0.8,0.1,0.1. Received: --splits="
            + ",".join(values)
        ) from None
    return train, validation, test


def _make_rules() -> Rules:
    if FLAGS.max_side_px is not None and FLAGS.max_side_px < FLAGS.min_side_px:
        raise ValueError(
            "--max_side_px must not be smaller than --min_side_px. Received: "
            f"--max_side_px={FLAGS.max_side_px} --min_side_px={FLAGS.min_side_px}"
        )
    return Rules(
        min_side_px=FLAGS.min_side_px,
        max_side_px=FLAGS.max_side_px,
        sample_bits=FLAGS.sample_bits,
        background=FLAGS.background,
        class_level=FLAGS.class_level,
        csv_columns=parse_columns(FLAGS.csv_columns) or None,
        conflicts=FLAGS.conflicts,
        corrections=FLAGS.corrections,
    )


def main(argv: list[str]) -> None:
    console.refuse_arguments("pipeline.main", argv)
    if FLAGS.out is None and not FLAGS.audit_only:
        error = ValueError(
            f"--out is needed, or --audit_only. Received: --out={FLAGS.out}"
        )
        console.fail("pipeline.main", error)
    from pipeline import prepare

    try:
        if FLAGS.folds and FLAGS["splits"].present:
            raise ValueError(
                "--folds cannot be combined with --splits: use one of them. Received: "
                f"--folds={FLAGS.folds} --splits={','.join(FLAGS.splits)}"
            )
        rules = _make_rules()
        beam_runner = None
        if FLAGS.beam_runner is not None:
            options = tuple(shlex.split(FLAGS.beam_options))
            beam_runner = BeamRunner(FLAGS.beam_runner, options)
            beam_runner.pipeline_options()
        if FLAGS.audit_only:
            prepare.audit_only(
                FLAGS.source,
                FLAGS.out or ".",
                seed=FLAGS.seed,
                rules=rules,
                strict=FLAGS.strict,
                beam_runner=beam_runner,
            )
        else:
            prepare.prepare(
                FLAGS.source,
                FLAGS.out,
                plan=SplitPlan(
                    fractions=_fractions(FLAGS.splits),
                    seed=FLAGS.seed,
                    num_folds=FLAGS.folds,
                    splits_from=FLAGS.splits_from,
                    allow_new=not FLAGS.no_new,
                    resplit=FLAGS.resplit,
                    small_classes=FLAGS.small_classes,
                ),
                num_shards=FLAGS.shards,
                rules=rules,
                strict=FLAGS.strict,
                beam_runner=beam_runner,
                overwrite=FLAGS.overwrite,
            )
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("pipeline.main", error)


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
