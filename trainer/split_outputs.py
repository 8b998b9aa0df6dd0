"""Computes what the best weights of each regime give for validation and test."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.loading import prepared_data
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix
from trainer.models.frozen_prefix import find_frozen_prefix
from trainer.postprocessing.unknown import (
    UnknownScorer,
    choose_fit_images,
    count_fit_images,
    fit_scorer,
)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What M classifiers give for a split of N images, in stored order.

    logits: float32 [N, M, K]. scores: float32 [N, M], unknown scores.
    heat_centres: float32 [N, M, 2]; see saliency.find_centre. labels: int32 [N].
    """

    logits: np.ndarray
    scores: np.ndarray
    heat_centres: np.ndarray
    labels: np.ndarray


def evaluate_splits(
    runtime: Runtime, config: TrainConfig, classifiers: Sequence[Classifier]
) -> tuple[list[UnknownScorer], Outputs, Outputs]:
    """Returns the scorer of each classifier, and what all give for both splits.

    The splits are validation and test.
    """
    prefixes = _find_common_prefixes(config, classifiers)
    scorers = _fit_scorers(runtime, config, classifiers, prefixes)
    with runtime.strategy.scope():
        step = evaluate.make_joint_eval_step(runtime, classifiers, prefixes, scorers)
    validation, test = (
        _evaluate(runtime, config, step, split) for split in ("validation", "test")
    )
    return scorers, validation, test


def _fit_scorers(
    runtime: Runtime,
    config: TrainConfig,
    classifiers: Sequence[Classifier],
    prefixes: Sequence[FrozenPrefix | None],
) -> list[UnknownScorer]:
    """Fits the unknown score of each classifier to some training images."""
    records = prepared_data.read_records(config.data_dir, "train", cached=False)
    labels = prepared_data.read_labels(records)
    positions = choose_fit_images(labels, count_fit_images(int(labels.max()) + 1))
    with runtime.strategy.scope():
        step = evaluate.make_embedding_step(runtime, classifiers, prefixes)
    embeddings, logits, _ = evaluate.evaluate(
        runtime,
        step,
        prepared_data.select(records, positions),
        image_size=config.image_size,
        batch_size=config.batch_size,
    )
    return [fit_scorer(embeddings[:, i], logits[:, i]) for i in range(len(classifiers))]


def _evaluate(
    runtime: Runtime, config: TrainConfig, eval_step: Callable, split: str
) -> Outputs:
    return Outputs(
        *evaluate.evaluate(
            runtime,
            eval_step,
            prepared_data.read_records(config.data_dir, split),
            image_size=config.image_size,
            batch_size=config.batch_size,
        )
    )


def _find_common_prefixes(
    config: TrainConfig, classifiers: Sequence[Classifier]
) -> list[FrozenPrefix | None]:
    """Finds the part of each classifier that no regime trained.

    It is the same in all classifiers, so one of them can compute it for all. None of
    them has one if no regime trained the backbone: the prefix would then be pooled, and
    where the classifier looks could not be seen.
    """
    backbone = classifiers[0].backbone
    fewest_frozen = min(
        freezing.resolve_freeze(backbone, regime.frozen)
        for regime in make_regimes(config)
    )
    for classifier in classifiers:
        freezing.freeze(classifier.backbone, fewest_frozen)
    if not backbone.trainable_variables:
        return [None] * len(classifiers)
    return [find_frozen_prefix(classifier) for classifier in classifiers]
