"""Describes one flag: its help text, default, choices and old names."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class FlagSpec:
    """The description of one flag, kept in the metadata of its TrainConfig field.

    default: the default of the flag, in the type of the field.
    help: the help text.
    choices: the values that the flag accepts; empty if the type alone decides.
    aliases: old spellings of values -> the values. They are accepted, but --help does
      not show them.
    old_name: an old name of the flag, accepted but not shown; None if there is none.
    may_change: True if a run that continues may have another value than before.
    """

    default: Any
    help: str
    choices: Sequence[str] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    old_name: str | None = None
    may_change: bool = False


def flag(
    default: Any,
    help_text: str,
    *,
    choices: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    old_name: str | None = None,
    may_change: bool = False,
    is_required: bool = False,
) -> Any:
    """Makes the dataclass field of a setting that is also a flag; see FlagSpec.

    is_required: True if TrainConfig needs a value: the default of the flag, None, is
      replaced before.
    """
    spec = FlagSpec(default, help_text, choices, aliases or {}, old_name, may_change)
    metadata = {"flag": spec}
    if is_required:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def get_specs(config_class: Any) -> dict[str, FlagSpec]:
    """Returns field -> description of its flag, for a config dataclass."""
    return {
        field.name: field.metadata["flag"] for field in dataclasses.fields(config_class)
    }
