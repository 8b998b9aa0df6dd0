"""Makes a TrainConfig of values from the command line or from config.json."""

import os
from collections.abc import Mapping
from typing import Any

from trainer.config.flag_spec import get_specs
from trainer.config.recipes import RECIPES
from trainer.config.train_config import TrainConfig

# Another machine, or another way to watch, may change these in a run that continues.
# Data in another directory are recognised by their content.
MAY_CHANGE = frozenset(
    name for name, spec in get_specs(TrainConfig).items() if spec.may_change
)


def config_from_json(flags: Mapping[str, Any]) -> TrainConfig:
    """Makes a TrainConfig of the "flags" in config.json.

    It accepts the names, spellings and missing directories of earlier versions. Before
    there were recipes, the defaults were those of the recipe notebook.

    Raises:
      ValueError: a value cannot be used.
    """
    values: dict[str, Any] = {}
    if "recipe" not in flags:
        values = {**RECIPES["notebook"], "recipe": "notebook"}
    # What runs did before there was a choice.
    values |= {"class_weights": "none", "epoch_steps": 0, "normalize_features": False}
    for name, spec in get_specs(TrainConfig).items():
        stored_name = name if name in flags else spec.old_name or name
        if stored_name in flags:
            value = flags[stored_name]
            values[name] = tuple(value) if isinstance(value, list) else value
    # Earlier versions stored the default of --freeze_layers beside --freeze_until.
    if values.get("freeze_until") is not None:
        values["freeze_layers"] = None
    return make_config(values)


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Makes a TrainConfig of values that may be old spellings or missing directories.

    values: field -> value; "model_dir" must be there.
    """
    specs = get_specs(TrainConfig)
    values = {
        name: specs[name].aliases.get(value, value) if specs[name].aliases else value
        for name, value in values.items()
    }
    model_dir = values["model_dir"]
    if values.get("export_dir") is None:
        values["export_dir"] = os.path.join(model_dir, "export")
    if values.get("data_dir") is None:
        values["data_dir"] = os.path.join(model_dir, "data")
    return TrainConfig(**values)
