"""Finds the settings in which two runs differ."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.comparison.run_results import RunResults
from trainer.config.flag_spec import get_specs
from trainer.config.recipes import RECIPES
from trainer.config.stored_config import config_from_json
from trainer.config.train_config import TrainConfig

# These flags say where a run is, not what it is. The data are compared by their hash.
_DIRECTORIES = ("model_dir", "export_dir", "data_dir", "cache_dir")
_HASH_DIGITS = 12


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting that differs, and its value in both runs; "" where a run has none."""

    name: str
    first: str
    second: str


def differing_settings(first: RunResults, second: RunResults) -> list[Setting]:
    """Returns the settings that differ: flags, data, devices and versions."""
    flags = _read_flags([first.config, second.config])
    of_first = _describe(first.config, flags[0])
    of_second = _describe(second.config, flags[1])
    return [
        Setting(name, of_first.get(name, ""), of_second.get(name, ""))
        for name in dict.fromkeys([*of_first, *of_second])
        if of_first.get(name, "") != of_second.get(name, "")
    ]


def _read_flags(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the flags of each run with the names and spellings of this version.

    A value that the head search chose replaces that of the flag. A flag that did not
    exist when the run began is absent. If this version cannot read the flags of one
    run, the flags of all runs are returned as they are stored.
    """
    stored = [
        (config.get("flags") or {}) | ((config.get("search") or {}).get("chosen") or {})
        for config in configs
    ]
    try:
        return [_keep_known(config_from_json(flags), flags) for flags in stored]
    except (ValueError, TypeError, KeyError):
        return stored


def _keep_known(config: TrainConfig, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flags that were stored, and those that old versions did not store."""
    inferred = () if "recipe" in stored else ("recipe", *RECIPES["notebook"])
    return {
        name: getattr(config, name)
        for name, spec in get_specs(TrainConfig).items()
        if name in stored or spec.old_name in stored or name in inferred
    }


def _describe(config: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, str]:
    """Returns each setting of a run as text, the flags first."""
    data = config.get("data") or {}
    project = config.get("project") or {}
    settings = {
        **{f"--{name}": flags[name] for name in flags if name not in _DIRECTORIES},
        **{f"{split} images": n for split, n in (data.get("counts") or {}).items()},
        "SHA-256 of splits.csv": (data.get("splits_sha256") or "")[:_HASH_DIGITS],
        "initial weights": config.get("weights_from"),
        "precision": config.get("precision"),
        "replicas": config.get("replicas"),
        "version of this project": project.get("version"),
        "commit of this project": project.get("commit"),
        "Python": config.get("python"),
        **(config.get("versions") or {}),
    }
    return {name: _to_text(value) for name, value in settings.items()}


def _to_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(map(_to_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
