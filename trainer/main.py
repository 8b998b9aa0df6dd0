"""`python -m trainer.main`: prepares data if needed, trains, evaluates and exports."""

import os
import sys
import time

from absl import flags

from pipeline.system import command_line, console
from trainer.config import flags as config_flags
from trainer.distribution import preemption
from trainer.distribution.preemption import Stopped, StopSignal

FLAGS = flags.FLAGS
config_flags.define_flags(FLAGS)


def main(argv: list[str]) -> None:
    started_at = time.monotonic()
    console.refuse_arguments("trainer.main", argv)
    try:
        config = config_flags.from_flags(FLAGS)
    except ValueError as error:
        console.fail("trainer.main", error)
    model_dir = config.model_dir
    stop_signal = StopSignal()
    preemption.install_handlers(stop_signal)
    try:
        with console.quiet_tensorflow_import():
            from export.export_run import export_run
            from trainer import train
        summary = train.train(config, stop_signal, started_at=started_at)
        if not summary:  # This worker is not the chief, so it writes no files.
            return
        version_dir = summary["export"] or export_run(model_dir, config.export_dir)
    except Stopped as stopped:
        print(
            f"trainer.main: stopped by {stopped}; the same command with "
            f"--model_dir={model_dir} continues",
            file=sys.stderr,
        )
        sys.exit(128 + stopped.signal_number)
    except (ValueError, OSError, FloatingPointError) as error:
        console.fail("trainer.main", error)
    if config.check_labels:
        print(f"labels:  {os.path.join(model_dir, 'labels.html')}")
    print(
        f"report:  {os.path.join(model_dir, 'report.html')}\n"
        f"summary: {os.path.join(model_dir, 'summary.json')}\n"
        f"model:   {version_dir}\n"
        f"serve:   python -m export.serve --export_dir={config.export_dir}"
    )


def run_command() -> None:
    """Runs the command line."""
    flags.adopt_module_key_flags(config_flags)
    command_line.run(main)


if __name__ == "__main__":
    run_command()
