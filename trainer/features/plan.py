"""Decides what each regime trains on: decoded images, or cached outputs of its frozen
layers."""

import dataclasses
import functools
import hashlib
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.loading import prepared_data
from pipeline.loading.order import mix_seed
from pipeline.loading.prepared_data import Records
from pipeline.system import versions
from trainer.config.regimes import Regime
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.features.cache import cache_features, cache_images
from trainer.features.cache_dir import FeatureCache
from trainer.features.extraction import PrefixExtractor, View
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix
from trainer.models.frozen_prefix import find_frozen_prefix

FEATURES_DIR = "features"

# The default of --cached_views.
MAX_VIEWS = 4

# The packages that decide the value of a feature.
_PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy")


@dataclasses.dataclass(frozen=True)
class RegimeInput:
    """What one regime trains and validates on.

    frozen_prefix: the part of the model that the regime does not train; None where the
      first layer trains.
    trained_variables: ids of the variables that the regime trains.
    train_features, val_features: records whose batches hold the outputs of the frozen
      prefix; None where the regime reads images instead.
    """

    frozen_prefix: FrozenPrefix | None
    trained_variables: frozenset[int]
    train_features: Records | None = None
    val_features: Records | None = None


def plan_inputs(classifier: Classifier, regimes: Sequence[Regime]) -> list[RegimeInput]:
    """Finds the frozen prefix of each regime, without features yet.

    The layers are frozen for each regime in turn and stay frozen as the last regime
    freezes them.
    """
    inputs = []
    backbone = classifier.backbone
    for regime in regimes:
        freezing.freeze(backbone, freezing.resolve_freeze(backbone, regime.frozen))
        trained = frozenset(id(v) for v in classifier.model.trainable_variables)
        inputs.append(RegimeInput(find_frozen_prefix(classifier), trained))
    return inputs


def cache_from_config(config: TrainConfig, model_dir: pathlib.Path) -> FeatureCache:
    """Returns the cache of a run, with the fingerprint of its data and versions."""
    fingerprint = {
        "files": [
            hashlib.sha256(pathlib.Path(config.data_dir, name).read_bytes()).hexdigest()
            for name in ("splits.csv", "dataset_info.json")
        ],
        "versions": versions.package_versions(_PACKAGES),
        "image_size": config.image_size,
        # Decoded images do not depend on it; see cache.cache_images.
        "backbone": [config.backbone, dict(config.backbone_args)],
    }
    directory = pathlib.Path(config.cache_dir or model_dir / FEATURES_DIR)
    return FeatureCache(directory, int(config.cache_gb * 1e9), fingerprint)


def read_images(
    runtime: Runtime, config: TrainConfig, cache: FeatureCache, split: str
) -> Records:
    """Opens one split, cached between epochs as --cache says.

    Raises:
      ValueError: there is no room for the decoded images.
      preemption.Stopped: the process was asked to stop.
    """
    uses_data_service = split == "train" and config.data_service is not None
    records = prepared_data.read_records(
        config.data_dir,
        split,
        cached=config.cache == "memory" and not uses_data_service,
    )
    if config.cache != "disk":
        return records
    return cache_images(
        runtime,
        cache,
        records,
        split=split,
        image_size=config.image_size,
        batch_size=config.batch_size,
    )


def make_views(config: TrainConfig, num_views: int) -> list[View]:
    """Returns the augmented views; view k is what epoch k + 1 would draw."""
    return [
        View(config.augment, mix_seed(config.seed, view + 1), xla=config.xla != "off")
        for view in range(num_views)
    ]


def resolve_views(
    config: TrainConfig, inputs: Sequence[RegimeInput], *, num_images: int
) -> int:
    """Returns the default of --cached_views: as many as --cache_gb has room for.

    Args:
      inputs: of all regimes.
      num_images: number of training images.
    """
    if config.data_service is not None or config.mix == "cutmix":
        return 0
    computable = _find_computable(inputs)
    prefixes = {
        regime_input.frozen_prefix.name: regime_input.frozen_prefix.prefix
        for regime_input, is_computable in zip(inputs, computable, strict=True)
        if is_computable and regime_input.frozen_prefix is not None
    }
    # Four bytes a value, also in half precision: validation images need room as well.
    view_bytes = sum(
        4 * num_images * math.prod(prefix.output.shape[1:])
        for prefix in prefixes.values()
    )
    if not view_bytes:
        return 0
    num_views = min(MAX_VIEWS, int(config.cache_gb * 1e9 // view_bytes))
    # One view would show every epoch the same image.
    return num_views if num_views > 1 else 0


def load_features(
    runtime: Runtime,
    config: TrainConfig,
    cache: FeatureCache,
    classifier: Classifier,
    inputs: Sequence[RegimeInput],
    *,
    train_images: Records,
    val_images: Records,
) -> list[RegimeInput]:
    """Returns the inputs with features: those of the first regime, and of later ones
    that the same passes over the images can serve.

    Validation images always become features. Training images become features with
    --cached_views.

    Args:
      inputs: of the regime that starts now and of those after it.

    Raises:
      ValueError: there is no room for the features of the training images, or
        --mix=cutmix has no area to cut in them.
      preemption.Stopped: the process was asked to stop.
    """
    inputs = list(inputs)
    first_prefix = inputs[0].frozen_prefix
    if first_prefix is None:
        return inputs
    _check_cutmix(config, inputs)
    computable = _find_computable(inputs)
    prefixes = {
        regime_input.frozen_prefix.name: regime_input.frozen_prefix
        for regime_input, is_computable in zip(inputs, computable, strict=True)
        if is_computable and regime_input.frozen_prefix is not None
    }

    extract = functools.partial(_extract, runtime, config, cache, classifier)
    if inputs[0].val_features is None:
        # If there is no room for the features of all prefixes, there may be room for
        # those of the first one.
        for some_prefixes in (prefixes, {first_prefix.name: first_prefix}):
            try:
                features = extract(
                    some_prefixes, images=val_images, split="validation", views=[View()]
                )
            except ValueError as error:
                problem = error
            else:
                inputs = _add_features(inputs, computable, "validation", features)
                break
        else:  # No reason to end the training: each epoch computes them.
            print(
                f"validation images are computed in every epoch: {problem}", flush=True
            )
    if inputs[0].train_features is None and config.cached_views:
        views = make_views(config, config.cached_views)
        features = extract(prefixes, images=train_images, split="train", views=views)
        inputs = _add_features(inputs, computable, "train", features)
    return inputs


def _extract(
    runtime: Runtime,
    config: TrainConfig,
    cache: FeatureCache,
    classifier: Classifier,
    prefixes: Mapping[str, FrozenPrefix],
    *,
    images: Records,
    split: str,
    views: Sequence[View],
) -> dict[str, Records]:
    """Maps the name of each prefix to records with its features."""
    extractor = PrefixExtractor(
        runtime, classifier, list(prefixes.values()), config.fuse_batch_norm
    )
    features = cache_features(
        extractor,
        cache,
        images,
        split=split,
        views=views,
        image_size=config.image_size,
        batch_size=config.batch_size,
    )
    return dict(zip(prefixes, features, strict=True))


def _check_cutmix(config: TrainConfig, inputs: Sequence[RegimeInput]) -> None:
    if config.mix != "cutmix" or not config.cached_views:
        return
    for regime_input in inputs:
        prefix = regime_input.frozen_prefix
        if prefix is not None and len(prefix.prefix.output.shape) < 4:
            raise ValueError(
                f"The output of {prefix.name} has no area to cut. Received: "
                f"--mix=cutmix --cached_views={config.cached_views}; use --mix=mixup, "
                "--cached_views=0 or a smaller --freeze_layers."
            )


def _find_computable(inputs: Sequence[RegimeInput]) -> list[bool]:
    """Tells for each regime whether its features can be computed now.

    It cannot if a regime before it trains a part of its frozen prefix.
    """
    computable = []
    trained_before: set[int] = set()
    for regime_input in inputs:
        prefix = regime_input.frozen_prefix
        computable.append(
            prefix is not None
            and not trained_before
            & {id(variable) for variable in prefix.prefix.variables}
        )
        trained_before |= regime_input.trained_variables
    return computable


def _add_features(
    inputs: Sequence[RegimeInput],
    computable: Sequence[bool],
    split: Literal["train", "validation"],
    features: Mapping[str, Records],
) -> list[RegimeInput]:
    """Sets the features of one split in the inputs whose features can be computed now.

    features: maps the name of a prefix to the records with its features.
    """
    updated = []
    for regime_input, is_computable in zip(inputs, computable, strict=True):
        prefix = regime_input.frozen_prefix
        if is_computable and prefix is not None and prefix.name in features:
            records = features[prefix.name]
            regime_input = (
                dataclasses.replace(regime_input, train_features=records)
                if split == "train"
                else dataclasses.replace(regime_input, val_features=records)
            )
        updated.append(regime_input)
    return updated
