"""What each regime reads: images, or what its frozen layers made of them."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Sequence

from pipeline.loading import prepared_data
from pipeline.loading.order import mix_seed
from pipeline.loading.prepared_data import Records
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

_PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy")


@dataclasses.dataclass
class RegimeInput:
    """What is frozen in a regime, and what that made of the images once it is there.

    trains: ids of the variables that train.
    """

    frozen_prefix: FrozenPrefix | None
    trains: frozenset[int]
    train_records: Records | None = None
    val_records: Records | None = None


def plan_inputs(classifier: Classifier, rows: Sequence[Regime]) -> list[RegimeInput]:
    """One stage a regime, without records yet; leaves the last regime's freeze."""
    stages = []
    for regime in rows:
        backbone = classifier.backbone
        freezing.freeze(backbone, freezing.resolve_freeze(backbone, regime.frozen))
        trains = frozenset(id(v) for v in classifier.model.trainable_variables)
        stages.append(RegimeInput(find_frozen_prefix(classifier), trains))
    return stages


def cache_from_config(config: TrainConfig, model_dir: pathlib.Path) -> FeatureCache:
    """Where a run keeps features, and what they depend on besides the weights."""
    data = [
        pathlib.Path(config.data_dir, name)
        for name in ("splits.csv", "dataset_info.json")
    ]
    fingerprint = {
        "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in data],
        "versions": [importlib.metadata.version(name) for name in _PACKAGES],
        "image_size": config.image_size,
        # Decoded images do not depend on these; see features.cache_images.
        "backbone": [config.backbone, dict(config.backbone_args)],
        "rounded": config.cache == "disk",
    }
    directory = pathlib.Path(config.cache_dir or model_dir / FEATURES_DIR)
    return FeatureCache(directory, int(config.cache_gb * 1e9), fingerprint)


def read_records(
    runtime: Runtime,
    config: TrainConfig,
    cache: FeatureCache,
    split: str,
) -> Records:
    """One split, kept between epochs as --cache says.

    Raises:
      ValueError: no room for the decoded images.
      preemption.Stopped: asked to, through the runtime's stop signal.
    """
    is_served = split == "train" and config.data_service is not None
    records = prepared_data.read_records(
        config.data_dir, split, cached=config.cache == "memory" and not is_served
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


def make_views(config: TrainConfig, count: int) -> list[View]:
    """The first augmented views: view k is what epoch k + 1 would have drawn."""
    return [
        View(
            config.augment,
            mix_seed(config.seed, view + 1),
            xla=config.xla != "off",
        )
        for view in range(count)
    ]


def load_prefix_features(
    runtime: Runtime,
    config: TrainConfig,
    cache: FeatureCache,
    classifier: Classifier,
    stages: Sequence[RegimeInput],
    *,
    train_records: Records,
    val_records: Records,
) -> None:
    """Gives the first stage its records, and the later ones that the pass can serve.

    Validation images always cross, training images with --cached_views; a stage keeps
    None for those that do not. See features.cache_features.

    Raises:
      ValueError: no room for the training images' features, or nothing to cut in them.
      preemption.Stopped: asked to, through the runtime's stop signal.
    """
    stage = stages[0]
    if stage.frozen_prefix is None:
        return
    pooled = [
        later.frozen_prefix.name
        for later in stages
        if later.frozen_prefix is not None
        and len(later.frozen_prefix.prefix.output.shape) < 4
    ]
    if config.mix == "cutmix" and config.cached_views and pooled:
        raise ValueError(
            f"What {pooled[0]} gives has no area to cut. Received: --mix=cutmix "
            f"--cached_views={config.cached_views}; take --mix=mixup, "
            "--cached_views=0 or a smaller --freeze_layers."
        )
    # One pass serves the regimes that come after too, unless one before them trains
    # what they take for frozen.
    served, trained = [], set()
    for later in stages:
        if later.frozen_prefix is not None and not trained & {
            id(variable) for variable in later.frozen_prefix.prefix.variables
        }:
            served.append(later)
        trained |= later.trains

    frozen_prefixes = {
        later.frozen_prefix.name: later.frozen_prefix for later in served
    }

    def make_crossing(names):
        chosen = [frozen_prefixes[name] for name in names]
        return PrefixExtractor(runtime, classifier, chosen, config.fold_frozen)

    extractor = make_crossing(frozen_prefixes)

    def cross(extractor, records, split, views):
        found = cache_features(
            extractor,
            cache,
            records,
            split=split,
            views=views,
            image_size=config.image_size,
            batch_size=config.batch_size,
        )
        names = (frozen_prefix.name for frozen_prefix in extractor.frozen_prefixes)
        return dict(zip(names, found, strict=True))

    if stage.val_records is None:
        # Where there is no room for all, there may be for the first.
        for each in (extractor, make_crossing([stage.frozen_prefix.name])):
            try:
                found = cross(each, val_records, "validation", [View()])
            except ValueError as error:
                problem = error
                continue
            for later in served:
                later.val_records = found.get(later.frozen_prefix.name)
            break
        else:  # that is no reason not to train
            print(
                f"validation images are computed in every epoch: {problem}", flush=True
            )
    if stage.train_records is None and config.cached_views:
        views = make_views(config, config.cached_views)
        found = cross(extractor, train_records, "train", views)
        for later in served:
            later.train_records = found[later.frozen_prefix.name]
    if stage.train_records is not None:
        views = len(stage.train_records.features)
        print(
            f"what {stage.frozen_prefix.name} gives is cached: {views} view(s) of each "
            "training image, which the epochs take in turn"
            + ("" if config.mix == "none" else f"; {config.mix} mixes these"),
            flush=True,
        )
