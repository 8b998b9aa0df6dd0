"""Defines BatchReader, which reads the batches of a regime, pass after pass."""

from trainer.training import loop
from trainer.training.regime_run import RegimeRun


class BatchReader:
    """Reads the batches of a regime from one pipeline, which takes time to start."""

    def __init__(self, run: RegimeRun):
        """Stores the run, whose training records are read later."""
        self._run = run
        self._batches: loop.BatchStream | None = None

    def read_on(self, pass_number: int, step: int) -> loop.BatchStream:
        """Returns the batches; the next one belongs to this step of the pass.

        The first call may begin anywhere. A later call must ask for the step after the
        last batch that was read.

        Args:
          pass_number: see RegimeRun.place.
          step: number of steps of the pass that are done.
        """
        config = self._run.config
        # A data service ends after one pass.
        if self._batches is None or config.data_service is not None:
            self._batches = loop.start_reading(
                self._run.runtime,
                self._run.train_records,
                image_size=config.image_size,
                batch_size=config.batch_size,
                epoch=pass_number,
                seed=config.seed,
                first_step=step,
                data_service=config.data_service,
            )
        return self._batches
