"""search_head(): heads compared on cached features, where each takes but a moment."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from pipeline.loading.prepared_data import Records
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives
from trainer.distribution.runtime import Runtime
from trainer.features.cache import cache_features
from trainer.features.extraction import PrefixExtractor, View
from trainer.features.plan import (
    cache_from_config,
    make_views,
    plan_inputs,
    read_records,
)
from trainer.head_search.stacked_heads import ROWS_PER_CALL
from trainer.models import freezing
from trainer.models.classifier import Classifier, build_classifier
from trainer.models.frozen_prefix import find_frozen_prefix


@dataclasses.dataclass(frozen=True)
class PooledSplit:
    """What one pooling makes of a split.

    views: float arrays [N, D], augmented, which the epochs take in turn; of validation
      for folds alone.
    plain: [N, D], of the images as they are; of train for folds alone.
    """

    views: Sequence[np.ndarray] | None
    plain: np.ndarray | None
    labels: np.ndarray


def extract_pooled(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    num_classes: int,
    poolings: Sequence[str],
) -> tuple[dict[str, PooledSplit], dict[str, PooledSplit]]:
    """Pooling -> what it makes of train, and of validation, in one pass each."""
    plan = plan_inputs(classifier, make_regimes(config))
    backbone = classifier.backbone
    freezing.freeze(backbone, len(backbone.layers))
    with runtime.strategy.scope():
        frozen_prefixes = [
            find_frozen_prefix(
                build_classifier(
                    backbone,
                    config.backbone,
                    num_classes=num_classes,
                    pooling=pooling,
                    head_units=config.head_units,
                    dropout=config.dropout,
                )
            )
            for pooling in poolings
        ]
    views = make_views(config, max(1, config.cached_views))
    cache = cache_from_config(config, model_dir)

    # What the other regimes will ask for comes out of the same passes, if they ask for
    # training images: where they do not, a lack of room for the rest is no mistake.
    others = [
        stage.frozen_prefix
        for stage in plan
        if config.cached_views and stage.frozen_prefix and stage.frozen_prefix.suffix
    ]
    alone, with_others = (
        PrefixExtractor(
            runtime, classifier, [*frozen_prefixes, *more], config.fold_frozen
        )
        for more in ([], others)
    )

    def cross(
        extractor: PrefixExtractor, split: str, looks: Sequence[View]
    ) -> list[Records]:
        return cache_features(
            extractor,
            cache,
            read_records(runtime, config, cache, split),
            split=split,
            views=looks,
            image_size=config.image_size,
            batch_size=config.batch_size,
        )

    plain = cross(with_others, "validation", [View()])
    augmented = cross(with_others, "train", views)
    # The plain training images and the changed validation images are of use to the
    # folds alone.
    rest = None
    if config.folds:
        rest = (cross(alone, "validation", views), cross(alone, "train", [View()]))
    train, validation = {}, {}
    for index, pooling in enumerate(poolings):
        views, labels = _gather(runtime, augmented[index])
        (as_it_is,), val_labels = _gather(runtime, plain[index])
        val_views, train_as_it_is = None, None
        if rest is not None:
            val_views, _ = _gather(runtime, rest[0][index])
            (train_as_it_is,), _ = _gather(runtime, rest[1][index])
        train[pooling] = PooledSplit(views, train_as_it_is, labels)
        validation[pooling] = PooledSplit(val_views, as_it_is, val_labels)
    return train, validation


def _gather(runtime: Runtime, records: Records) -> tuple[list[np.ndarray], np.ndarray]:
    """All workers' features, of each view, and labels."""
    rows = records.dataset.batch(ROWS_PER_CALL).as_numpy_iterator()
    labels = np.concatenate([row["label"] for row in rows])
    *views, labels = (
        collectives.all_gather(runtime, part, records.count)
        for part in (*records.features, labels)
    )
    return views, labels
