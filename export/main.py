"""`python -m export.main --model_dir=RUN --export_dir=EXPORT`: exports a run."""

from absl import flags

from pipeline.system import command_line, console

FLAGS = flags.FLAGS

flags.DEFINE_string("model_dir", None, "Directory of a finished run of trainer.main.")
flags.DEFINE_string(
    "export_dir", None, "Directory that gets the next version.", required=True
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ("float32", "bfloat16"),
    "Arithmetic of the served model. bfloat16 is faster where the processor has it. It "
    "is refused if it costs test accuracy.",
)
flags.DEFINE_float(
    "max_accuracy_drop",
    0.01,
    "How much test accuracy --precision=bfloat16 may cost.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "keep", None, "How many older versions stay. Default: all.", lower_bound=0
)
flags.DEFINE_bool(
    "rollback", False, "Instead: withdraw the newest version of --export_dir."
)


def main(argv: list[str]) -> None:
    console.refuse_arguments("export.main", argv)
    if FLAGS.rollback == (FLAGS.model_dir is not None):
        error = ValueError(
            "Give either --model_dir=RUN, to export it, or --rollback. Received: "
            f"--model_dir={FLAGS.model_dir} --rollback={FLAGS.rollback}"
        )
        console.fail("export.main", error)
    with console.quiet_tensorflow_import():
        from export.export_run import export_run
        from export.version import publish
    try:
        if FLAGS.rollback:
            print(f"newest version: {publish.roll_back(FLAGS.export_dir)}")
            return
        export_run(
            FLAGS.model_dir,
            FLAGS.export_dir,
            precision=FLAGS.precision,
            max_accuracy_drop=FLAGS.max_accuracy_drop,
            keep=FLAGS.keep,
        )
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.main", error)


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
