"""Defines BatchReader: the batches of a regime, read on and on over its passes."""

from trainer.training import loop
from trainer.training.regime_run import RegimeRun


class BatchReader:
    """Holds the batches of a regime, because the start of a pipeline takes time."""

    def __init__(self, run: RegimeRun):
        """run: its records are read; nothing is read yet."""
        self._run = run
        self._batches: loop.BatchStream | None = None

    def read_on(self, pass_number: int, step: int) -> loop.BatchStream:
        """Returns the batches, of which the next one is that of this step of the pass.

        The first call may begin anywhere; later calls go on where the batches ended.
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
