"""The flags, the frozen TrainConfig made of them, and the regimes that follow."""

import dataclasses
import math
from collections.abc import Mapping

REGIMES = ("head", "finetune")
POOLINGS = ("avg", "max")
SCHEDULES = ("notebook", "constant", "cosine")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
BATCH_NORMS = ("trained", "frozen")
AUGMENTS = ("notebook", "light", "strong", "none")
MIXES = ("none", "mixup", "cutmix")
XLA = ("auto", "on", "off")
SWEEPS = ("none", "head")
CACHES = ("memory", "disk", "off")

# What another machine, or another way to watch, may change in a run that continues.
# Data that moved is known by its content.
MAY_CHANGE = frozenset(
    {
        "data_dir",
        "model_dir",
        "export_dir",
        "strategy",
        "virtual_devices",
        "xla",
        "data_service",
        "deterministic",
        "keep_checkpoints",
        "profile_steps",
        "cache_dir",
        "cache_gb",
    }
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every setting of a run; each field is the flag of the same name."""

    data_dir: str | None
    source: str | None
    model_dir: str | None
    export_dir: str | None
    backbone: str
    backbone_args: Mapping[str, object]
    weights: str
    image_size: int
    batch_size: int
    augment: str
    mix: str
    regimes: tuple[str, ...]
    pooling: str
    head_units: int
    dropout: float
    head_epochs: int
    head_lr: float
    freeze_layers: int
    freeze_until: str | None
    finetune_epochs: int
    finetune_lr: float
    finetune_batch_norm: str
    schedule: str
    strategy: str
    virtual_devices: int
    precision: str
    xla: str
    data_service: str | None
    deterministic: bool
    keep_checkpoints: int
    profile_steps: tuple[int, int] | None
    cache: str
    cached_views: int
    cache_dir: str | None
    cache_gb: float
    fold_frozen: bool
    sweep: str
    folds: int
    seed: int


def check(config: TrainConfig, *, freeze_layers_given: bool) -> None:
    if config.data_dir is not None and config.source is not None:
        raise ValueError(
            "--data_dir is prepared data, --source is to be prepared: give one. "
            f"Received: --data_dir={config.data_dir} --source={config.source}"
        )
    if config.freeze_until is not None and freeze_layers_given:
        raise ValueError(
            "--freeze_until and --freeze_layers say the same thing: give one. Received:"
            f" --freeze_until={config.freeze_until} "
            f"--freeze_layers={config.freeze_layers}"
        )
    known = set(config.regimes) <= set(REGIMES)
    if (
        not known
        or not config.regimes
        or len(set(config.regimes)) < len(config.regimes)
    ):
        raise ValueError(
            f"--regimes must be one or more of {','.join(REGIMES)}, each once. "
            f"Received: --regimes={','.join(config.regimes)}"
        )
    for name in (
        "image_size",
        "batch_size",
        "head_units",
        "head_epochs",
        "head_lr",
        "finetune_epochs",
        "finetune_lr",
        "virtual_devices",
        "keep_checkpoints",
        "cache_gb",
    ):
        value = getattr(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(
                f"--{name} must be a positive number. Received: --{name}={value}"
            )
    for name in ("freeze_layers", "cached_views", "folds", "seed"):
        value = getattr(config, name)
        if value < 0:
            raise ValueError(
                f"--{name} must not be negative. Received: --{name}={value}"
            )
    if not 0 <= config.dropout < 1:
        raise ValueError(
            "--dropout must be at least 0 and less than 1. Received: "
            f"--dropout={config.dropout}"
        )

    if config.folds == 1:
        raise ValueError(
            "--folds must be at least 2, or 0 for none. Received: --folds=1"
        )
    if (config.sweep != "none" or config.folds) and "head" not in config.regimes:
        raise ValueError(
            "--sweep and --folds try heads for the head regime. Received: --sweep="
            f"{config.sweep} --folds={config.folds} "
            f"--regimes={','.join(config.regimes)}"
        )

    if config.mix == "cutmix" and config.cached_views and "head" in config.regimes:
        raise ValueError(
            "In the head regime --cached_views keeps pooled features, which have no "
            f"area to cut. Received: --mix=cutmix --cached_views={config.cached_views};"
            " take --mix=mixup, --cached_views=0 or --regimes=finetune."
        )
    if config.data_service is not None:
        if config.cache == "disk":
            raise ValueError(
                "A data service decodes the images, so there are none to keep. "
                f"Received: --data_service={config.data_service} --cache=disk"
            )
        if config.cached_views:
            raise ValueError(
                "--cached_views reads no images after the first pass, so a data service"
                " has nothing to do. Received: --data_service="
                f"{config.data_service} --cached_views={config.cached_views}"
            )
        if not config.data_service.startswith("grpc://"):
            raise ValueError(
                "--data_service must be the address of a dispatcher, grpc://HOST:PORT. "
                f"Received: --data_service={config.data_service}"
            )
        if config.deterministic:
            raise ValueError(
                "--deterministic needs the examples in one order, which a data service "
                f"does not keep. Received: --data_service={config.data_service} "
                "--deterministic"
            )
