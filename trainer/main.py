"""`python -m trainer.main`: prepare if needed, train, evaluate, export."""

import dataclasses
import datetime
import os
import sys

from absl import app, flags

from pipeline import console
from trainer import config, interrupt

FLAGS = flags.FLAGS
config.define_flags(FLAGS)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        words = " ".join(argv[1:])
        console.fail("trainer.main", ValueError(f"Unexpected words. Received: {words}"))
    try:
        settings = config.from_flags(FLAGS)
    except ValueError as error:
        console.fail("trainer.main", error)
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    model_dir = settings.model_dir or os.path.join("runs", now)
    export_dir = settings.export_dir or os.path.join(model_dir, "export")
    settings = dataclasses.replace(settings, model_dir=model_dir, export_dir=export_dir)
    requests = interrupt.Requests()
    interrupt.listen(requests)
    try:
        with console.quiet_tensorflow_import():
            from export import saved_model
            from trainer import train
        summary = train.train(settings, requests)
        if not summary:  # a worker that is not the chief: it writes nothing
            return
        version_dir = summary["export"] or saved_model.export_run(model_dir, export_dir)
    except interrupt.Stopped as stopped:
        print(
            f"trainer.main: stopped by {stopped}; the same command with "
            f"--model_dir={model_dir} continues",
            file=sys.stderr,
        )
        sys.exit(128 + stopped.signal_number)
    except (ValueError, OSError, FloatingPointError) as error:
        console.fail("trainer.main", error)
    print(
        f"report:  {os.path.join(model_dir, 'report.html')}\n"
        f"summary: {os.path.join(model_dir, 'summary.json')}\n"
        f"model:   {version_dir}"
    )


if __name__ == "__main__":
    flags.adopt_module_key_flags(config)
    app.run(main)
