"""`python -m trainer.check_labels --data_dir=DATA --out=LABELS`: finds wrong labels.

Trains nothing but the heads of the check. `trainer.main --check_labels` makes the same
check after a training.
"""

import dataclasses
import os
import sys

from absl import flags

from pipeline.system import command_line, console
from trainer.config import flags as config_flags
from trainer.distribution import preemption
from trainer.distribution.preemption import Stopped, StopSignal

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data_dir", None, "A directory that pipeline.main wrote.", required=True
)
flags.DEFINE_string(
    "out", None, "Directory of label_issues.csv and labels.html.", required=True
)
config_flags.define_flags(
    FLAGS,
    names=(
        *("backbone", "backbone_args", "weights", "image_size", "pooling"),
        *("batch_size", "strategy", "precision", "cache_dir", "cache_gb", "seed"),
    ),
)


def main(argv: list[str]) -> None:
    """Checks the labels, or ends with one line that says why not."""
    console.refuse_arguments("trainer.check_labels", argv)
    stop_signal = StopSignal()
    try:
        config = config_flags.from_flags(FLAGS)
        config = dataclasses.replace(config, model_dir=FLAGS.out, check_labels=True)
        preemption.install_handlers(stop_signal)
        with console.quiet_tensorflow_import():
            from trainer.label_check import check
        check.check_prepared_data(config, stop_signal)
    except Stopped as stopped:
        print(f"trainer.check_labels: stopped by {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal_number)
    except (ValueError, OSError) as error:
        console.fail("trainer.check_labels", error)
    print(
        f"list: {os.path.join(FLAGS.out, 'label_issues.csv')}\n"
        f"page: {os.path.join(FLAGS.out, 'labels.html')}"
    )


def run_command() -> None:
    """Runs the command line."""
    flags.adopt_module_key_flags(config_flags)
    command_line.run(main)


if __name__ == "__main__":
    run_command()
