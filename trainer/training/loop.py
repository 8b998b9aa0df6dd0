"""The distributed train step, and the loop over it."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from pipeline.loading.dataset import make_train_dataset
from pipeline.loading.order import mix_seed
from pipeline.loading.prepared_data import Records
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime

# Many steps a call keep Python out of the way; few enough, in time, for progress to be
# seen and for a request to stop to be heard.
_SECONDS_PER_CALL = 1.0
_MOST_STEPS_PER_CALL = 64


@dataclasses.dataclass(frozen=True)
class Update:
    """What one call of a few steps did.

    done: steps of the epoch that are done now.
    losses, corrects: of each of its steps the sum over the examples.
    seconds, waited_seconds: that this call took, and waited for input (NaN if unknown).
    stop: whether a worker was asked to stop.
    save: whether a worker finds it time for a checkpoint.
    """

    done: int
    losses: tuple[float, ...]
    corrects: tuple[float, ...]
    seconds: float
    waited_seconds: float
    stop: bool
    save: bool


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
) -> tf.data.Iterator:
    """What train_epoch takes its batches from; see dataset.make_train_dataset."""
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
    return iter(batches)


def train_epoch(
    train_steps: Callable,
    batches: tf.data.Iterator,
    *,
    steps: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    pause_at: Sequence[int] = (),
    wants: Callable[[], tuple[bool, bool]] = lambda: (False, False),
) -> Iterator[Update]:
    """Trains one epoch, or what is left of it; yields an Update every second or so.

    Args:
      batches: from start_reading; stands before the epoch's first_step.
      steps: of the whole epoch.
      epoch: counts over all regimes, so that no two epochs of a run share randomness.
      first_step: how many steps of it were done before.
      pause_at: steps after which to yield in any case.
      wants: asked before each call; whether this worker wants to stop, to save.
    """
    done, num_steps, step_seconds = first_step, 1, 0.0
    while done < steps:
        start = time.monotonic()
        next_pause = min([pause for pause in pause_at if pause > done], default=steps)
        num_steps = min(num_steps, steps - done, next_pause - done)
        per_step, agreed = train_steps(
            batches,
            tf.constant(mix_seed(seed, epoch)),
            tf.constant(done),
            tf.constant(num_steps),
            tf.constant([*wants(), step_seconds], tf.float32),
        )
        losses, corrects, waited = per_step.numpy().T.tolist()
        stop, save, mean_step_seconds = agreed.numpy().tolist()
        seconds = time.monotonic() - start
        done += num_steps
        step_seconds = seconds / num_steps
        yield Update(
            done,
            tuple(losses),
            tuple(corrects),
            seconds,
            sum(waited),
            stop > 0,
            save > 0,
        )
        # From what all workers said, so that all take the same number of steps.
        if mean_step_seconds:
            num_steps = int(_SECONDS_PER_CALL / mean_step_seconds)
            num_steps = min(max(num_steps, 1), _MOST_STEPS_PER_CALL)
