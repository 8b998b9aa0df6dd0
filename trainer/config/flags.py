"""Defines the absl flags of the fields of TrainConfig, and reads them."""

import ast
import dataclasses
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from trainer.config.flag_spec import FlagSpec, get_specs
from trainer.config.recipes import EMBEDDED, RECIPES, TRAINED_HEAD
from trainer.config.stored_config import make_config
from trainer.config.train_config import TrainConfig

# The notebook that this project replaces froze 140 of ResNet50's 175 layers.
RESNET50_FREEZE_LAYERS = 140

_DEFINERS: dict[Any, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    str | None: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    int | None: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    float | None: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    tuple[str, ...]: flags.DEFINE_list,
    tuple[int, int] | None: flags.DEFINE_list,
    Mapping[str, object]: flags.DEFINE_list,
}


def define_flags(
    values: flags.FlagValues, *, names: Sequence[str] | None = None
) -> None:
    """Defines a flag on `values` for each field of TrainConfig, or for those in names.

    Choices are not absl enums: absl would show old spellings in the help text, and
    TrainConfig checks them in any case.
    """
    specs = get_specs(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if names is not None and field.name not in names:
            continue
        spec, define = specs[field.name], _DEFINERS[field.type]
        default = spec.default
        if define is flags.DEFINE_list and default is not None:
            default = list(default)
        choices = f"<{'|'.join(spec.choices)}>: " if spec.choices else ""
        define(field.name, default, choices + spec.help, flag_values=values)
        if spec.old_name is not None:
            define(
                spec.old_name, None, f"Old name of --{field.name}.", flag_values=values
            )
            _hide(values, spec.old_name)


def _hide(values: flags.FlagValues, name: str) -> None:
    """Removes a flag from --help and --helpfull; it can still be used."""
    flag = values[name]
    for module_flags in (
        *values.flags_by_module_dict().values(),
        *values.flags_by_module_id_dict().values(),
    ):
        if flag in module_flags:
            module_flags.remove(flag)


def from_flags(values: flags.FlagValues) -> TrainConfig:
    """Makes a TrainConfig of the parsed flags.

    A flag that is not defined has its default. Directories without a flag are set:
    MODEL_DIR is runs/DATE-TIME.

    Raises:
      ValueError: a value cannot be used; the message quotes it.
    """
    config = {
        name: _read_flag(values, name, spec)
        for name, spec in get_specs(TrainConfig).items()
    }
    config["backbone_args"] = _parse_arguments(config["backbone_args"])
    config["regimes"] = tuple(config["regimes"])
    config["profile_steps"] = _parse_steps(config["profile_steps"])
    if config["data_dir"] is not None and config["source"] is not None:
        raise ValueError(
            "--data_dir is prepared data and --source is data to prepare: use one of "
            f"them. Received: --data_dir={config['data_dir']} "
            f"--source={config['source']}"
        )
    if config["data_dir"] is None and config["source"] is None:
        config["source"] = "sample"
    model_flags = ("backbone", "backbone_args", "weights")
    if config["source"] == "sample" and not any(
        _is_given(values, name) for name in model_flags
    ):
        config["weights"] = "embedded"
    for name, value in _choose_defaults(config).items():
        if not _is_given(values, name):
            config[name] = value
    is_free = config["freeze_layers"] is None and config["freeze_until"] is None
    if is_free and config["backbone"] == "ResNet50":
        config["freeze_layers"] = RESNET50_FREEZE_LAYERS
    if config["model_dir"] is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        config["model_dir"] = os.path.join("runs", now)
    return make_config(config)


def _choose_defaults(config: Mapping[str, Any]) -> dict[str, object]:
    """Returns the defaults that depend on other flags."""
    defaults: dict[str, object] = {}
    if config["weights"] == "embedded":
        defaults |= EMBEDDED
        if config["freeze_until"] is not None:
            del defaults["freeze_layers"]
    # An unknown recipe is an error of TrainConfig, which knows the choices.
    defaults |= RECIPES.get(config["recipe"], {})
    if config["regimes"][:1] != ("head",):
        # No regime before finetune has made a head or weights.
        defaults |= {**TRAINED_HEAD, "finetune_result": "best"}
    elif (
        config["head_units"]
        or config["dropout"]
        or config["sweep"] != "none"
        or config["head_folds"]
    ):
        defaults |= TRAINED_HEAD
    return defaults


def _is_given(values: flags.FlagValues, name: str) -> bool:
    """Tells whether the command line has a flag, under its name or its old name."""
    old_name = get_specs(TrainConfig)[name].old_name
    names = (name, old_name) if old_name is not None else (name,)
    return any(each in values and bool(values[each].present) for each in names)


def _read_flag(values: flags.FlagValues, name: str, spec: FlagSpec) -> Any:
    """Returns the value of a flag, given under its name or under its old name.

    Raises:
      ValueError: it is given under both.
    """
    if name not in values:
        return spec.default
    if spec.old_name is None or not values[spec.old_name].present:
        return values[name].value
    old_value = values[spec.old_name].value
    if values[name].present:
        raise ValueError(
            f"--{spec.old_name} is the old name of --{name}: use only --{name}. "
            f"Received: --{spec.old_name}={old_value} --{name}={values[name].value}"
        )
    return old_value


def _parse_steps(words: Sequence[str] | None) -> tuple[int, int] | None:
    """["10", "20"] -> (10, 20)."""
    if words is None:
        return None
    if len(words) == 2 and all(word.isdecimal() for word in words):
        first, last = (int(word) for word in words)
        if first < last:
            return first, last
    raise ValueError(
        "--profile_steps must be two numbers of steps, FIRST,LAST. Received: "
        f"--profile_steps={','.join(words)}"
    )


def _parse_arguments(pairs: Sequence[str]) -> dict[str, object]:
    """["alpha=0.25", "depth=2"] -> {"alpha": 0.25, "depth": 2}."""
    arguments: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(
                "--backbone_args must be comma-separated key=value pairs. Received: "
                f"--backbone_args={','.join(pairs)}"
            )
        try:
            arguments[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[name] = text
    return arguments
