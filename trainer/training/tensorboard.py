"""Writes files for TensorBoard: the figures of each epoch, and profiles of steps."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from trainer.distribution.runtime import Runtime
from trainer.evaluation.epoch_metrics import EpochMetrics


def make_scalar_writer(
    runtime: Runtime, model_dir: pathlib.Path, regime: str
) -> Callable[[EpochMetrics], None]:
    """Returns a function that writes the figures of an epoch; only the chief writes."""
    if not runtime.is_chief:
        return lambda line: None
    directory = model_dir / "tensorboard" / regime
    writer = tf.summary.create_file_writer(str(directory))

    def write_scalars(line: EpochMetrics) -> None:
        with writer.as_default(step=line["step"]):
            for name, value in line.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
        writer.flush()

    return write_scalars


@contextlib.contextmanager
def make_profiler(
    runtime: Runtime, model_dir: pathlib.Path, profile_steps: tuple[int, int] | None
) -> Iterator[Callable[[int], None]]:
    """Yields profile(step), which starts and stops the profile of --profile_steps.

    profile_steps: first and last step of the run to profile; None profiles nothing.
    """
    is_running = False

    def profile(step: int) -> None:
        nonlocal is_running
        if profile_steps is None or not runtime.is_chief:
            return
        first_step, last_step = profile_steps
        if is_running != (first_step <= step < last_step):
            if is_running:
                tf.profiler.experimental.stop()
            else:
                tf.profiler.experimental.start(str(model_dir / "tensorboard"))
            is_running = not is_running

    try:
        yield profile
    finally:
        if is_running:
            tf.profiler.experimental.stop()
