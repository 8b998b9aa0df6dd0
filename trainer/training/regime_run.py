"""Defines RegimeRun: what the epochs of one regime need."""

import dataclasses
import pathlib

import keras

from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import Records
from trainer.config.class_balance import ClassBalance
from trainer.config.regimes import Regime
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.features.plan import RegimeInput
from trainer.models.classifier import Classifier
from trainer.training.position import Position


@dataclasses.dataclass(frozen=True)
class RegimeRun:
    """One regime of a run; its fields do not change while its epochs run.

    first_pass: number of its first pass over the training images, from 1 over all
      regimes, so that no two passes of a run share randomness.
    inputs: the frozen prefix and the features that replace the images.
    train_images, val_images: the images of both splits.
    """

    runtime: Runtime
    config: TrainConfig
    model_dir: pathlib.Path
    classifier: Classifier
    regime: Regime
    first_pass: int
    balance: ClassBalance
    optimizer: keras.optimizers.Optimizer
    inputs: RegimeInput
    train_images: Records
    val_images: Records

    @property
    def train_records(self) -> Records:
        """Returns the features of the training images; without them, the images."""
        return self.inputs.train_features or self.train_images

    @property
    def val_records(self) -> Records:
        """Returns the features of the validation images; without them, the images."""
        return self.inputs.val_features or self.val_images

    @property
    def pass_steps(self) -> int:
        """Returns the number of steps of one pass over the training images."""
        return num_batches(self.train_records.count, self.config.batch_size)

    def count_steps(self, epoch: int) -> int:
        """Returns the number of steps of an epoch, which counts from 0."""
        done = epoch * self.regime.epoch_steps
        return min(self.regime.epoch_steps, self.regime.steps - done)

    def place(self, position: Position) -> tuple[int, int]:
        """Returns the number of the current pass, and the number of its steps done."""
        done = position.epoch * self.regime.epoch_steps + position.step
        passes, step = divmod(done, self.pass_steps)
        return self.first_pass + passes, step

    @property
    def can_resume_in_epoch(self) -> bool:
        """Returns True if a run can continue within an epoch.

        With a data service it cannot: a service keeps no order, so the rest of an epoch
        is unknown.
        """
        return self.config.data_service is None

    def count_images(self, steps: int) -> int:
        """Returns how many images the first `steps` steps of an epoch read.

        The number is exact for whole passes. Within a pass it is rounded, because its
        batches do not all have the same number of images; see loading/order.py.
        """
        return round(steps * self.train_records.count / self.pass_steps)
