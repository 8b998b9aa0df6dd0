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
    """One regime of a run; nothing in it changes while its epochs run.

    inputs: the frozen prefix and the features that replace the images.
    train_images, val_images: the images of both splits.
    """

    runtime: Runtime
    config: TrainConfig
    model_dir: pathlib.Path
    classifier: Classifier
    regime: Regime
    balance: ClassBalance
    optimizer: keras.optimizers.Optimizer
    inputs: RegimeInput
    train_images: Records
    val_images: Records

    @property
    def train_records(self) -> Records:
        """The features of the training images, or the images."""
        return self.inputs.train_features or self.train_images

    @property
    def val_records(self) -> Records:
        """The features of the validation images, or the images."""
        return self.inputs.val_features or self.val_images

    @property
    def epoch_steps(self) -> int:
        """Number of steps of an epoch."""
        return num_batches(self.train_records.count, self.config.batch_size)

    @property
    def can_resume_in_epoch(self) -> bool:
        """False with a data service, which keeps no order: no step can be repeated."""
        return self.config.data_service is None

    def count_images(self, position: Position) -> int:
        """Returns how many images of the current epoch are done."""
        done = position.step * self.config.batch_size
        return min(done, self.train_records.count)
