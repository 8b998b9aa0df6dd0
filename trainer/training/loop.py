"""Runs the training steps of an epoch, a few in each call, on all workers together."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from pipeline.loading.dataset import make_train_dataset
from pipeline.loading.order import mix_seed
from pipeline.loading.prepared_data import Records
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime

# A call has many steps, so that Python takes little of the time. It takes only about a
# second, so that the run shows progress and reacts to a signal.
_SECONDS_PER_CALL = 1.0
_MAX_STEPS_PER_CALL = 64


@dataclasses.dataclass(frozen=True)
class Update:
    """The result of one call of a few steps.

    done: steps of the epoch that are complete now.
    losses, corrects: for each step of the call, the sum over its examples of the loss,
      and the number of correct predictions.
    seconds, waited_seconds: time of the call, and the part of it spent waiting for
      input (NaN if unknown).
    stop: True if a worker was asked to stop.
    save: True if a worker asks for a checkpoint.
    """

    done: int
    losses: tuple[float, ...]
    corrects: tuple[float, ...]
    seconds: float
    waited_seconds: float
    stop: bool
    save: bool


class BatchStream:
    """The batches of training in their order, read one ahead of the steps.

    iterator: gives the batches after `ready`.
    ready: the next batch, which is on the devices; see collectives.read_batch. None
      before the first reading.
    """

    def __init__(self, strategy: tf.distribute.Strategy, batches: tf.data.Dataset):
        """Starts the pipeline; no batch is read yet."""
        self._strategy = strategy
        self.iterator = iter(batches)
        self.ready: list[dict[str, tf.Tensor]] | None = None

    def read_first(self) -> None:
        """Reads the first batch, if no batch is ready."""
        if self.ready is None:
            self.ready = collectives.read_batch(self._strategy, self.iterator)


def start_reading(
    runtime: Runtime,
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    data_service: str | None = None,
) -> BatchStream:
    """Returns the batches that train_epoch reads; see dataset.make_train_dataset."""
    batches = make_train_dataset(
        records,
        image_size=image_size,
        batch_size=batch_size,
        epoch=epoch,
        seed=seed,
        first_step=first_step,
        input_context=collectives.make_input_context(runtime),
        data_service=data_service,
    )
    return BatchStream(runtime.strategy, batches)


def train_epoch(
    train_steps: Callable,
    batches: BatchStream,
    *,
    steps: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    pause_at: Sequence[int] = (),
    read_stop_and_save: Callable[[], tuple[bool, bool]] = lambda: (False, False),
) -> Iterator[Update]:
    """Trains one epoch, or the rest of it; yields an Update about every second.

    Args:
      train_steps: from step.make_train_steps.
      batches: from start_reading; the next batch is that of first_step.
      steps: number of steps of the whole epoch.
      epoch: number of the epoch over all regimes, so that no two epochs of a run share
        randomness.
      first_step: number of steps that were done before.
      pause_at: numbers of steps after which a call has to end.
      read_stop_and_save: called before each call; tells whether this worker was asked
        to stop, and whether it asks for a checkpoint.
    """
    done, num_steps, step_seconds = first_step, 1, 0.0
    while done < steps:
        start = time.monotonic()
        batches.read_first()
        first_wait = time.monotonic() - start
        next_pause = min([pause for pause in pause_at if pause > done], default=steps)
        num_steps = min(num_steps, steps - done, next_pause - done)
        per_step, reduced_flags, batches.ready = train_steps(
            batches.iterator,
            batches.ready,
            tf.constant([*read_stop_and_save(), step_seconds], tf.float32),
            seed=tf.constant(mix_seed(seed, epoch)),
            first_step=tf.constant(done),
            num_steps=tf.constant(num_steps),
        )
        losses, corrects, waited = per_step.numpy().T.tolist()
        stop, save, mean_step_seconds = reduced_flags.numpy().tolist()
        seconds = time.monotonic() - start
        done += num_steps
        step_seconds = seconds / num_steps
        yield Update(
            done=done,
            losses=tuple(losses),
            corrects=tuple(corrects),
            seconds=seconds,
            waited_seconds=first_wait + sum(waited),
            stop=stop > 0,
            save=save > 0,
        )
        # The mean over the workers, so that all take the same number of steps.
        if mean_step_seconds:
            num_steps = int(_SECONDS_PER_CALL / mean_step_seconds)
            num_steps = min(max(num_steps, 1), _MAX_STEPS_PER_CALL)
