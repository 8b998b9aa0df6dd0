"""Computes the pooled features that the head search trains on."""

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
    read_images,
)
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix, build_classifier
from trainer.models.frozen_prefix import find_frozen_prefix

_ROWS_PER_READ = 4096


@dataclasses.dataclass(frozen=True)
class PooledSplit:
    """The pooled features of one split, in stored order, as the head sees them.

    plain: float [N, D], features of the images as they are; None if not needed.
    views: float [N, D] each, features of the augmented views; empty if they are not
      needed.
    labels: int [N].
    """

    plain: np.ndarray | None
    views: Sequence[np.ndarray]
    labels: np.ndarray


def extract_pooled(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    *,
    num_classes: int,
    poolings: Sequence[str],
) -> tuple[dict[str, PooledSplit], dict[str, PooledSplit]]:
    """Computes the features of the training and of the validation split.

    The plain training features are computed only for --head_folds and for
    --head_start=logistic, the validation views only for --head_folds.

    Returns:
      Two dictionaries, for training and validation, from pooling to features.
    """
    later_prefixes = _list_later_prefixes(config, classifier)
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    pooled_prefixes = [
        _make_pooled_prefix(runtime, config, classifier, pooling, num_classes)
        for pooling in poolings
    ]
    cache = cache_from_config(config, model_dir)
    only_pooled, all_prefixes = (
        PrefixExtractor(runtime, classifier, prefixes, config.fuse_batch_norm)
        for prefixes in (pooled_prefixes, [*pooled_prefixes, *later_prefixes])
    )

    def extract(
        extractor: PrefixExtractor, split: str, views: Sequence[View]
    ) -> list[Records]:
        return cache_features(
            extractor,
            cache,
            read_images(runtime, config, cache, split),
            split=split,
            views=views,
            image_size=config.image_size,
            batch_size=config.batch_size,
        )

    views = make_views(config, config.cached_views or 1)
    val_plain = extract(all_prefixes, "validation", [View()])
    train_views = extract(all_prefixes, "train", views)
    val_views: list[Records] = []
    train_plain: list[Records] = []
    if config.head_folds:
        val_views = extract(only_pooled, "validation", views)
    if config.head_folds or config.head_start == "logistic":
        train_plain = extract(only_pooled, "train", [View()])
    train, validation = {}, {}
    for index, pooling in enumerate(poolings):
        train[pooling] = _gather_split(
            runtime,
            plain=train_plain[index : index + 1],
            views=[train_views[index]],
            normalized=config.normalize_features,
        )
        validation[pooling] = _gather_split(
            runtime,
            plain=[val_plain[index]],
            views=val_views[index : index + 1],
            normalized=config.normalize_features,
        )
    return train, validation


def extract_plain(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    *,
    num_classes: int,
    splits: Sequence[str],
) -> list[PooledSplit]:
    """Computes the features of the images as they are, or finds them in the cache.

    Returns:
      The features of each split, without views.
    """
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    prefix = _make_pooled_prefix(
        runtime, config, classifier, config.pooling, num_classes
    )
    cache = cache_from_config(config, model_dir)
    extractor = PrefixExtractor(runtime, classifier, [prefix], config.fuse_batch_norm)
    pooled = []
    for split in splits:
        plain = cache_features(
            extractor,
            cache,
            read_images(runtime, config, cache, split),
            split=split,
            views=[View()],
            image_size=config.image_size,
            batch_size=config.batch_size,
        )
        pooled.append(
            _gather_split(
                runtime, plain=plain, views=[], normalized=config.normalize_features
            )
        )
    return pooled


def _list_later_prefixes(
    config: TrainConfig, classifier: Classifier
) -> list[FrozenPrefix]:
    """Lists the prefixes of the other regimes, which the same passes can serve.

    There are none without --cached_views: the other regimes then use no features of
    training images, and a lack of room for them must not be an error.
    """
    if not config.cached_views:
        return []
    inputs = plan_inputs(classifier, make_regimes(config))
    prefixes = [regime_input.frozen_prefix for regime_input in inputs]
    return [prefix for prefix in prefixes if prefix is not None and prefix.suffix]


def _make_pooled_prefix(
    runtime: Runtime,
    config: TrainConfig,
    classifier: Classifier,
    pooling: str,
    num_classes: int,
) -> FrozenPrefix:
    """Returns the whole backbone, which must be frozen, and a pooling as one prefix."""
    with runtime.strategy.scope():
        with_pooling = build_classifier(
            classifier.backbone,
            config.backbone,
            num_classes=num_classes,
            head=dataclasses.replace(config.head, pooling=pooling),
        )
        prefix = find_frozen_prefix(with_pooling)
    assert prefix is not None, "a frozen backbone always has a prefix"
    return prefix


def _gather_split(
    runtime: Runtime,
    *,
    plain: Sequence[Records],
    views: Sequence[Records],
    normalized: bool,
) -> PooledSplit:
    """Gathers the features of all workers.

    plain, views: one or no records each. normalized: see HeadConfig.
    """
    plain_features: list[np.ndarray] = []
    view_features: list[np.ndarray] = []
    for records in views:
        view_features, labels = _gather(runtime, records)
    for records in plain:
        plain_features, labels = _gather(runtime, records)
    if normalized:
        plain_features = [normalize(features) for features in plain_features]
        view_features = [normalize(features) for features in view_features]
    return PooledSplit(
        plain=plain_features[0] if plain_features else None,
        views=view_features,
        labels=labels,
    )


def normalize(features: np.ndarray) -> np.ndarray:
    """Divides each row by its root mean square, as a normalised head does.

    float [N, D] -> float32 [N, D]; a row of zeros stays.
    """
    rows = features.astype(np.float32)
    rms = np.sqrt(np.mean(np.square(rows), axis=1, keepdims=True))
    return rows / np.maximum(rms, 1e-6)


def _gather(runtime: Runtime, records: Records) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the features of each view, and the labels, of all workers."""
    rows = records.dataset.batch(_ROWS_PER_READ).as_numpy_iterator()
    own_labels = np.concatenate([row["label"] for row in rows])
    *views, labels = (
        collectives.all_gather(runtime, part, records.count)
        for part in (*records.features, own_labels)
    )
    return views, labels
