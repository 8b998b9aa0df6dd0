"""Makes what a run trains: the prepared data, the classifier, the number of views."""

import dataclasses
import os
import pathlib

import keras

from pipeline import prepare
from pipeline.loading import data_service, prepared_data
from pipeline.loading.dataset import make_eval_dataset
from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import DataInfo
from pipeline.sources.check_source import check_source
from pipeline.splits.assign import SplitPlan
from trainer.config.regimes import Regime, make_regimes, plan_steps
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.features.plan import plan_inputs, resolve_views
from trainer.models import backbones, freezing
from trainer.models.classifier import Classifier, build_classifier
from trainer.training import checkpoints
from trainer.training.checkpoints import Checkpoint


def check_data_flags(config: TrainConfig) -> None:
    """Finds mistakes in the flags that name data, before anything is prepared.

    Raises:
      ValueError: there are no such data, or no such data service.
    """
    if config.source is None:
        prepared_data.read_info(config.data_dir)
    elif not os.path.exists(config.data_dir):
        check_source(config.source)
    if config.data_service is not None:
        data_service.check_data_service(config.data_service)


def load_checkpoint(runtime: Runtime, model_dir: pathlib.Path) -> Checkpoint | None:
    """Loads on every worker the checkpoint that the chief finds newest and intact."""
    checkpoint = checkpoints.load_newest(model_dir) if runtime.is_chief else None
    steps = checkpoint.position.total_steps if checkpoint is not None else -1
    chief_steps = collectives.broadcast_from_chief(runtime, steps)
    if chief_steps == -1 or runtime.is_chief:
        return checkpoint
    return checkpoints.load(checkpoints.checkpoint_path(model_dir, chief_steps))


def make_backbone(
    runtime: Runtime, config: TrainConfig, checkpoint: Checkpoint | None
) -> tuple[keras.Model, str]:
    """Returns the backbone and where its weights come from."""
    with runtime.strategy.scope():
        backbone = backbones.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        if checkpoint is not None:
            return backbone, "the checkpoint"
        weights_from = backbones.load_backbone_weights(
            backbone,
            config.backbone,
            config.backbone_args,
            config.weights,
        )
    return backbone, weights_from


def prepare_data(runtime: Runtime, config: TrainConfig) -> None:
    """Prepares --source, if that is given and was not done before.

    Raises:
      ValueError: several workers would prepare it.
    """
    if config.source is None:
        return
    if collectives.has_several_workers(runtime):
        raise ValueError(
            "Several workers need data that are prepared already: run pipeline.main "
            f"first and give --data_dir. Received: --source={config.source}"
        )
    if not os.path.exists(config.data_dir):
        prepare.prepare(
            config.source, config.data_dir, plan=SplitPlan(seed=config.seed)
        )
        print()


def make_classifier(
    runtime: Runtime, config: TrainConfig, backbone: keras.Model, info: DataInfo
) -> Classifier:
    """Builds the classifier with the head of the config."""
    with runtime.strategy.scope():
        return build_classifier(
            backbone,
            config.backbone,
            num_classes=len(info.classes),
            head=config.head,
        )


def choose_views(
    config: TrainConfig, classifier: Classifier, info: DataInfo
) -> TrainConfig:
    """Returns the config with a number of views."""
    if config.cached_views is not None:
        return config
    inputs = plan_inputs(classifier, make_regimes(config))
    freezing.freeze(classifier.backbone, 0)
    num_views = resolve_views(config, inputs, num_images=info.counts["train"])
    return dataclasses.replace(config, cached_views=num_views)


def calibrate(classifier: Classifier, config: TrainConfig) -> None:
    """Gives the batch norm of random weights the statistics of one batch."""
    # One global batch, which every worker reads as a whole, so that all agree.
    batches = make_eval_dataset(
        prepared_data.read_records(config.data_dir, "train"),
        image_size=config.image_size,
        batch_size=config.batch_size,
    )
    freezing.calibrate_batch_norm(classifier, next(iter(batches))["image"])


def plan_regimes(config: TrainConfig, info: DataInfo) -> list[Regime]:
    """Returns the regimes with their steps."""
    return plan_steps(
        make_regimes(config),
        num_batches(info.counts["train"], config.batch_size),
        epoch_steps=config.epoch_steps,
    )
