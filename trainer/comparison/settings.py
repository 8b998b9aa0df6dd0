"""Finds the settings in which two runs differ."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from trainer.comparison.run_results import RunResults
from trainer.config.stored_config import config_from_json

# Every run has its own.
_DIRECTORIES = ("model_dir", "export_dir")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting that differs, and its value in both runs; "" where a run has none."""

    name: str
    first: str
    second: str


def differing_settings(first: RunResults, second: RunResults) -> list[Setting]:
    """Returns what differs: flags, data, and where the runs took place."""
    of_first, of_second = _describe(first.config), _describe(second.config)
    return [
        Setting(name, of_first.get(name, ""), of_second.get(name, ""))
        for name in dict.fromkeys([*of_first, *of_second])
        if of_first.get(name, "") != of_second.get(name, "")
    ]


def _describe(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns each setting of a config.json as text, the flags first."""
    flags = {
        f"--{name}": value
        for name, value in _read_flags(config).items()
        if name not in _DIRECTORIES
    }
    data = config.get("data") or {}
    counts = data.get("counts") or {}
    project = config.get("project") or {}
    settings = {
        **flags,
        **{f"{split} images": count for split, count in counts.items()},
        "splits.csv (SHA-256)": data.get("splits_sha256"),
        "initial weights": config.get("weights_from"),
        "precision": config.get("precision"),
        "replicas": config.get("replicas"),
        "version of this project": project.get("version"),
        "commit of this project": project.get("commit"),
        "Python": config.get("python"),
        **(config.get("versions") or {}),
    }
    return {name: _to_text(value) for name, value in settings.items()}


def _read_flags(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flags with the names and defaults of this version.

    What the head search chose replaces the flag. Flags that this version cannot read
    are returned as they are stored.
    """
    flags = config.get("flags") or {}
    flags = flags | ((config.get("search") or {}).get("chosen") or {})
    try:
        return dataclasses.asdict(config_from_json(flags))
    except (ValueError, TypeError, KeyError):
        return flags


def _to_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
