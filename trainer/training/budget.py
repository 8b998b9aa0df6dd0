"""Fits a regime into --minutes: measures its speed and shortens it."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence

from pipeline.loading.dataset import make_eval_dataset
from trainer.config.regimes import Regime, limit_steps
from trainer.distribution import collectives
from trainer.models.classifier import compute_logits
from trainer.training import checkpoints, loop, progress, run_config
from trainer.training.batch_reader import BatchReader
from trainer.training.regime_run import RegimeRun
from trainer.training.validation import make_eval_step, validate

# The speed is measured for this time, or for one call of steps if a call takes longer.
_SECONDS_OF_MEASURING = 3.0
# Evaluation, report and export build models, trace graphs and start a process, like the
# start of a run. They take about this many times as long as the start. The estimate is
# high, so that the command ends early rather than late.
_ENDINGS_PER_START = 2.5


@dataclasses.dataclass(frozen=True)
class Clock:
    """The times of a command that are known before it trains.

    started_at: when the command started, on the clock time.monotonic().
    start_seconds: time from its start until it read the first image.
    num_final_images: images that the final evaluation classifies.
    """

    started_at: float
    start_seconds: float
    num_final_images: int


def recall_regime(regime: Regime, stored_steps: int | None) -> Regime:
    """Returns the regime with the number of steps that config.json stores, if any.

    stored_steps: from run_config.read_steps(); None if there is no number.
    """
    return regime if stored_steps is None else limit_steps(regime, stored_steps)


def fit_regime(
    run: RegimeRun,
    train_steps: Callable,
    later: Sequence[Regime],
    *,
    clock: Clock,
    has_result: bool,
) -> Regime:
    """Returns the regime with as many steps as fit, and stores their number.

    The chief decides for all workers. The variables of the model keep their values.
    Those of the optimizer do not, so the caller makes a new one.

    Args:
      run: the regime, with as many steps as it would have without --minutes.
      train_steps: the steps of the run; see step.make_train_steps.
      later: the regimes after this one. The time is divided in proportion to the steps.
      clock: what the command has used of its minutes.
      has_result: there are trained weights already. They are the result if no step
        fits; without them that is an error.

    Raises:
      ValueError: there is no time for one step, and no result yet.
      preemption.Stopped: the process was asked to stop.
    """
    variables = run.classifier.model.variables
    with run.runtime.strategy.scope():
        before = checkpoints.capture(variables)
    trace_seconds, step_seconds = _measure_steps(run, train_steps)
    with run.runtime.strategy.scope():
        checkpoints.restore_variables(variables, before)
    regime = run.regime
    step_seconds += _measure_validation(run) / regime.epoch_steps
    end_seconds = _ENDINGS_PER_START * clock.start_seconds
    end_seconds += clock.num_final_images * _measure_image(run)
    used = time.monotonic() - clock.started_at
    left = 60 * _minutes_of(run) - used - end_seconds
    share = regime.steps / (regime.steps + sum(each.steps for each in later))
    # The new optimizer needs a graph of its own, so the steps are traced again.
    possible = int((share * left - trace_seconds) / step_seconds)
    steps = collectives.broadcast_from_chief(
        run.runtime, min(regime.steps, max(0, possible))
    )
    if steps < 1:
        problem = (
            f"There is no time for a step of {regime.name}: it takes "
            f"{step_seconds:.2g} s, and all that comes before and after takes about "
            f"{(used + end_seconds + trace_seconds) / 60:.1f} minutes. Received: "
            f"--minutes={_minutes_of(run):g}"
        )
        if not has_result:
            raise ValueError(f"{problem}; give more minutes.")
        print(f"{problem}. The weights from before it are the result.", flush=True)
    fitted = limit_steps(regime, steps)
    if run.runtime.is_chief:
        run_config.record_steps(run.model_dir, regime.name, steps)
    collectives.barrier(run.runtime)
    if steps:
        progress.print_budget(
            fitted,
            planned_steps=regime.steps,
            images=run.count_images(steps),
            seconds=steps * step_seconds + trace_seconds,
            end_seconds=end_seconds,
        )
    return fitted


def _minutes_of(run: RegimeRun) -> float:
    assert run.config.minutes is not None, "the caller has checked it"
    return run.config.minutes


def _measure_steps(run: RegimeRun, train_steps: Callable) -> tuple[float, float]:
    """Returns the seconds of the first call, which traces, and of one later step."""
    reader = BatchReader(run)
    trace_seconds, seconds, steps = 0.0, 0.0, 0
    for pass_number in itertools.count(run.first_pass):
        for update in loop.train_epoch(
            train_steps,
            reader.read_on(pass_number, 0),
            steps=run.pass_steps,
            epoch=pass_number,
            seed=run.config.seed,
            read_stop_and_save=lambda: (run.runtime.stop_signal.is_set, False),
        ):
            if update.stop:
                raise run.runtime.stop_signal.make_exception()
            if not trace_seconds:
                trace_seconds = update.seconds
                continue
            seconds += update.seconds
            steps += len(update.losses)
            # All workers have to stop after the same call.
            is_enough = seconds > _SECONDS_OF_MEASURING
            if collectives.any_worker(run.runtime, is_enough):
                return trace_seconds, seconds / steps
    raise AssertionError("the passes do not end")


def _measure_validation(run: RegimeRun) -> float:
    """Returns the seconds of a validation after the first one, which traces."""
    eval_step = make_eval_step(run)
    validate(run, eval_step)
    start = time.monotonic()
    validate(run, eval_step)
    return time.monotonic() - start


def _measure_image(run: RegimeRun) -> float:
    """Returns the seconds that this worker needs to decode and classify an image."""
    batches = make_eval_dataset(
        run.val_images,
        image_size=run.config.image_size,
        batch_size=run.config.batch_size,
    )
    seconds = 0.0
    for batch in batches.take(1).repeat(2):
        start = time.monotonic()
        compute_logits(run.classifier, batch["image"]).numpy()
        seconds = time.monotonic() - start
    return seconds / run.config.batch_size
