"""Checks the values of a TrainConfig, without TensorFlow."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.config.flag_spec import FlagSpec
from trainer.config.recipes import EMBEDDED
from trainer.config.regime_specs import parse_spec

if TYPE_CHECKING:  # train_config imports this file
    from trainer.config.train_config import TrainConfig

_POSITIVE = (
    "image_size",
    "batch_size",
    "head_lr",
    "finetune_epochs",
    "finetune_lr",
    "virtual_devices",
    "keep_checkpoints",
    "cache_gb",
    "minutes",
)
_NOT_NEGATIVE = (
    "freeze_layers",
    "cached_views",
    "head_epochs",
    "finetune_steps",
    "epoch_steps",
    "head_folds",
    "head_units",
    "seed",
)


def check_config(config: "TrainConfig", specs: Mapping[str, FlagSpec]) -> None:
    """Checks each value, and the values that exclude one another.

    Args:
      specs: field -> description of its flag.

    Raises:
      ValueError: a value cannot be used; the message quotes it.
    """
    _check_choices(config, specs)
    _check_weights(config)
    _check_regimes(config)
    _check_ranges(config)
    _check_head_start(config)
    _check_head_search(config)
    _check_mixing(config)
    _check_data_service(config)
    if config.virtual_devices > 1 and config.strategy == "one_device":
        raise ValueError(
            "--virtual_devices are for --strategy=mirrored. Received: "
            f"--virtual_devices={config.virtual_devices} --strategy=one_device; leave "
            "out one of them."
        )
    if config.check_labels and config.weights == "random":
        raise ValueError(
            "The label check needs a backbone that knows photographs. Received: "
            "--check_labels --weights=random; use pretrained weights, such as "
            "--weights=imagenet."
        )


def _check_choices(config: "TrainConfig", specs: Mapping[str, FlagSpec]) -> None:
    for name, spec in specs.items():
        value = getattr(config, name)
        if spec.choices and value not in spec.choices:
            raise ValueError(
                f"--{name} must be one of {', '.join(spec.choices)}. Received: "
                f"--{name}={value}"
            )


def _check_weights(config: "TrainConfig") -> None:
    is_mobilenet = (
        config.backbone == EMBEDDED["backbone"]
        and config.backbone_args == EMBEDDED["backbone_args"]
    )
    if config.weights == "embedded" and not is_mobilenet:
        arguments = ",".join(f"{k}={v}" for k, v in config.backbone_args.items())
        raise ValueError(
            "--weights=embedded are weights of MobileNet with alpha=0.25. Received: "
            f"--weights=embedded --backbone={config.backbone} "
            f"--backbone_args={arguments}; leave out --backbone and --backbone_args."
        )


def _check_regimes(config: "TrainConfig") -> None:
    if config.freeze_until is not None and config.freeze_layers is not None:
        raise ValueError(
            "--freeze_until and --freeze_layers exclude each other: use one of them. "
            f"Received: --freeze_until={config.freeze_until} "
            f"--freeze_layers={config.freeze_layers}"
        )
    names = [parse_spec(text).name for text in config.regimes]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "--regimes must be one or more regimes, each name once. Received: "
            f"--regimes={','.join(config.regimes)}"
        )

    if config.finetune_result == "average" and names[0] != "head":
        raise ValueError(
            "--finetune_result=average needs a regime before, so the first must be "
            "head. Received: --finetune_result=average "
            f"--regimes={','.join(config.regimes)}"
        )


def _check_ranges(config: "TrainConfig") -> None:
    for name in _POSITIVE:
        value = getattr(config, name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(
                f"--{name} must be a positive number. Received: --{name}={value}"
            )
    for name in _NOT_NEGATIVE:
        value = getattr(config, name)
        if value is not None and value < 0:
            raise ValueError(
                f"--{name} must not be negative. Received: --{name}={value}"
            )
    for name in ("dropout", "label_smoothing", "unknown_rate"):
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(
                f"--{name} must be at least 0 and less than 1. Received: "
                f"--{name}={getattr(config, name)}"
            )
    if not 0 < config.coverage < 1:
        raise ValueError(
            "--coverage must be more than 0 and less than 1. Received: "
            f"--coverage={config.coverage}"
        )


def _check_head_start(config: "TrainConfig") -> None:
    if config.head_start == "random":
        if not config.head_epochs:
            raise ValueError(
                "--head_epochs must be a positive number, unless the head is solved "
                "with --head_start=logistic. Received: --head_epochs=0"
            )
        return
    if config.regimes[0] != "head":
        raise ValueError(
            "--head_start=logistic solves the head of the regime head, which must be "
            "the first. Received: --head_start=logistic "
            f"--regimes={','.join(config.regimes)}"
        )
    conflicts = {
        "head_units": config.head_units != 0,
        "dropout": config.dropout != 0,
        "sweep": config.sweep != "none",
        "head_folds": config.head_folds != 0,
    }
    for name, is_conflict in conflicts.items():
        if is_conflict:
            raise ValueError(
                "--head_start=logistic solves a linear head, so it needs "
                "--head_units=0 --dropout=0 --sweep=none --head_folds=0. Received: "
                f"--head_start=logistic --{name}={getattr(config, name)}"
            )


def _check_head_search(config: "TrainConfig") -> None:
    if config.head_folds == 1:
        raise ValueError(
            "--head_folds must be at least 2, or 0 for no folds. Received: "
            "--head_folds=1"
        )
    searches = config.sweep != "none" or config.head_folds
    if searches and not config.head_units:
        raise ValueError(
            "--sweep and --head_folds compare heads with a hidden layer. Received: "
            f"--sweep={config.sweep} --head_folds={config.head_folds} --head_units=0; "
            "leave out --sweep and --head_folds, or name a number of --head_units."
        )
    if searches and "head" not in config.regimes:
        raise ValueError(
            "--sweep and --head_folds try heads for the head regime. Received: "
            f"--sweep={config.sweep} --head_folds={config.head_folds} "
            f"--regimes={','.join(config.regimes)}; add head to --regimes."
        )


def _check_mixing(config: "TrainConfig") -> None:
    if config.mix == "cutmix" and config.cached_views and "head" in config.regimes:
        raise ValueError(
            "In the head regime --cached_views keeps pooled features, which have no "
            f"area to cut. Received: --mix=cutmix --cached_views={config.cached_views};"
            " use --mix=mixup, --cached_views=0 or --regimes=finetune."
        )


def _check_data_service(config: "TrainConfig") -> None:
    if config.data_service is None:
        return
    if config.cache == "disk":
        raise ValueError(
            "A data service decodes the images, so --cache=disk has no images to "
            f"write. Received: --data_service={config.data_service} --cache=disk; "
            "leave out one of them."
        )
    if config.cached_views:
        raise ValueError(
            "--cached_views reads no images after the first pass, so a data service "
            f"has no work. Received: --data_service={config.data_service} "
            f"--cached_views={config.cached_views}; leave out one of them."
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
            "--deterministic; leave out one of them."
        )
