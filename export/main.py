"""`python -m export.main --model_dir=RUN --export_dir=EXPORT`: exports a run."""

from absl import app, flags

from pipeline import console

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "model_dir", None, "Directory of a finished run of trainer.main.", required=True
)
flags.DEFINE_string(
    "export_dir", None, "Directory that gets the next version.", required=True
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected words. Received: {' '.join(argv[1:])}")
    with console.quiet_tensorflow_import():
        from export import saved_model
    try:
        saved_model.export_run(FLAGS.model_dir, FLAGS.export_dir)
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.main", error)


if __name__ == "__main__":
    app.run(main)
