"""`python -m trainer.main`: prepare if needed, train, evaluate, export."""

import dataclasses
import datetime
import os
import sys

from absl import flags

from pipeline.system import command_line, console
from trainer.config import flags as config_flags
from trainer.distribution import preemption
from trainer.distribution.preemption import Stopped, StopSignal

FLAGS = flags.FLAGS
config_flags.define_flags(FLAGS)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        words = " ".join(argv[1:])
        console.fail("trainer.main", ValueError(f"Unexpected words. Received: {words}"))
    try:
        config = config_flags.from_flags(FLAGS)
    except ValueError as error:
        console.fail("trainer.main", error)
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    model_dir = config.model_dir or os.path.join("runs", now)
    export_dir = config.export_dir or os.path.join(model_dir, "export")
    config = dataclasses.replace(config, model_dir=model_dir, export_dir=export_dir)
    stop_signal = StopSignal()
    preemption.install_handlers(stop_signal)
    try:
        with console.quiet_tensorflow_import():
            from export import export_run
            from trainer import train
        summary = train.train(config, stop_signal)
        if not summary:  # a worker that is not the chief: it writes nothing
            return
        version_dir = summary["export"] or export_run(model_dir, export_dir)
    except Stopped as stopped:
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


def run_command() -> None:
    """Runs the command line."""
    flags.adopt_module_key_flags(config_flags)
    command_line.run(main)


if __name__ == "__main__":
    run_command()
