"""What each regime reads: images, or what its frozen layers made of them."""

import dataclasses
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Sequence

from pipeline import augment, dataset, preprocess
from pipeline.dataset import Records
from trainer import features, fold, frontier, model
from trainer.config import Regime, TrainConfig
from trainer.features import Crossing, View
from trainer.interrupt import Requests
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime
from trainer.store import Cache

FEATURES_DIR = "features"

_PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy")


@dataclasses.dataclass
class Stage:
    """What is frozen in a regime, and what that made of the images once it is there.

    trains: ids of the variables that train.
    """

    frontier: Frontier | None
    trains: frozenset[int]
    train_records: Records | None = None
    val_records: Records | None = None


def plan_stages(classifier: Classifier, rows: Sequence[Regime]) -> list[Stage]:
    """One stage a regime, without records yet; leaves the last regime's freeze."""
    stages = []
    for regime in rows:
        backbone = classifier.backbone
        model.freeze(backbone, model.resolve_freeze(backbone, regime.frozen))
        trains = frozenset(id(v) for v in classifier.model.trainable_variables)
        stages.append(Stage(frontier.find_frontier(classifier), trains))
    return stages


def describe_cache(settings: TrainConfig, model_dir: pathlib.Path) -> Cache:
    """Where a run keeps features, and what they depend on besides the weights."""
    data = [
        pathlib.Path(settings.data_dir, name)
        for name in ("splits.csv", "dataset_info.json")
    ]
    code = [pathlib.Path(module.__file__) for module in (augment, fold, preprocess)]
    fingerprint = {
        "files": [
            hashlib.sha256(path.read_bytes()).hexdigest() for path in (*data, *code)
        ],
        "versions": [importlib.metadata.version(name) for name in _PACKAGES],
        "image_size": settings.image_size,
        # Decoded images do not depend on these; see features.cache_images.
        "backbone": [settings.backbone, dict(settings.backbone_args)],
        "rounded": settings.cache == "disk",
    }
    directory = pathlib.Path(settings.cache_dir or model_dir / FEATURES_DIR)
    return Cache(directory, int(settings.cache_gb * 1e9), fingerprint)


def read_records(
    run: Runtime, settings: TrainConfig, cache: Cache, split: str, requests: Requests
) -> Records:
    """One split, kept between epochs as --cache says.

    Raises:
      ValueError: no room for the decoded images.
      interrupt.Stopped: asked to, through `requests`.
    """
    is_served = split == "train" and settings.data_service is not None
    records = dataset.read_records(
        settings.data_dir, split, cached=settings.cache == "memory" and not is_served
    )
    if settings.cache != "disk":
        return records
    return features.cache_images(
        run,
        cache,
        records,
        split=split,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        requests=requests,
    )


def make_views(settings: TrainConfig, count: int) -> list[View]:
    """The first augmented views: view k is what epoch k + 1 would have drawn."""
    return [
        View(
            settings.augment,
            dataset.mix_seed(settings.seed, view + 1),
            xla=settings.xla != "off",
        )
        for view in range(count)
    ]


def cross_frontier(
    run: Runtime,
    settings: TrainConfig,
    cache: Cache,
    classifier: Classifier,
    stages: Sequence[Stage],
    *,
    train_records: Records,
    val_records: Records,
    requests: Requests,
) -> None:
    """Gives the first stage its records, and the later ones that the pass can serve.

    Validation images always cross, training images with --cached_views; a stage keeps
    None for those that do not. See features.cache_features.

    Raises:
      ValueError: no room for the training images' features, or nothing to cut in them.
      interrupt.Stopped: asked to, through `requests`.
    """
    stage = stages[0]
    if stage.frontier is None:
        return
    pooled = [
        later.frontier.name
        for later in stages
        if later.frontier is not None and len(later.frontier.prefix.output.shape) < 4
    ]
    if settings.mix == "cutmix" and settings.cached_views and pooled:
        raise ValueError(
            f"What {pooled[0]} gives has no area to cut. Received: --mix=cutmix "
            f"--cached_views={settings.cached_views}; take --mix=mixup, "
            "--cached_views=0 or a smaller --freeze_layers."
        )
    # One pass serves the regimes that come after too, unless one before them trains
    # what they take for frozen.
    served, trained = [], set()
    for later in stages:
        if later.frontier is not None and not trained & {
            id(variable) for variable in later.frontier.prefix.variables
        }:
            served.append(later)
        trained |= later.trains

    frontiers = {later.frontier.name: later.frontier for later in served}

    def make_crossing(names):
        chosen = [frontiers[name] for name in names]
        return Crossing(run, classifier, chosen, settings.fold_frozen)

    crossing = make_crossing(frontiers)

    def cross(crossing, records, split, views):
        found = features.cache_features(
            crossing,
            cache,
            records,
            split=split,
            views=views,
            image_size=settings.image_size,
            batch_size=settings.batch_size,
            requests=requests,
        )
        names = (frontier.name for frontier in crossing.frontiers)
        return dict(zip(names, found, strict=True))

    if stage.val_records is None:
        # Where there is no room for all, there may be for the first.
        for each in (crossing, make_crossing([stage.frontier.name])):
            try:
                found = cross(each, val_records, "validation", [View()])
            except ValueError as error:
                problem = error
                continue
            for later in served:
                later.val_records = found.get(later.frontier.name)
            break
        else:  # that is no reason not to train
            print(
                f"validation images are computed in every epoch: {problem}", flush=True
            )
    if stage.train_records is None and settings.cached_views:
        views = make_views(settings, settings.cached_views)
        found = cross(crossing, train_records, "train", views)
        for later in served:
            later.train_records = found[later.frontier.name]
    if stage.train_records is not None:
        views = len(stage.train_records.features)
        print(
            f"what {stage.frontier.name} gives is cached: {views} view(s) of each "
            "training image, which the epochs take in turn"
            + ("" if settings.mix == "none" else f"; {settings.mix} mixes these"),
            flush=True,
        )
