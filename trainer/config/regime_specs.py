"""Reads what --regimes says of one regime: NAME or NAME:KEY=VALUE:KEY=VALUE."""

import dataclasses
import math
import re

# The regimes that need no settings.
KNOWN_REGIMES = ("head", "finetune", "top", "all")
DEFAULT_REGIMES = ("head", "finetune")

# summary.json has these keys beside the names of the regimes.
RESERVED_NAMES = (
    *("classes", "regimes", "best_regime", "chosen_by", "class_weights", "test"),
    *("reliability", "slices", "confidence_curve", "learning_curve"),
    *("search", "export", "config"),
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_EXAMPLE = "--regimes=head,top,all or --regimes=head,late:freeze=100:lr=0.001"


@dataclasses.dataclass(frozen=True)
class RegimeSpec:
    """One regime of --regimes; None where a setting is not given.

    freeze: the number of the backbone's first layers that stay frozen, or the name of
      the last of them.
    lr: learning rate. epochs: number of epochs. steps: fewest steps.
    """

    name: str
    freeze: int | str | None = None
    lr: float | None = None
    epochs: int | None = None
    steps: int | None = None


def parse_spec(text: str) -> RegimeSpec:
    """ "late:freeze=100:lr=0.001" -> RegimeSpec("late", freeze=100, lr=0.001).

    Raises:
      ValueError: it is no such text; the message quotes it.
    """
    name, *pairs = text.split(":")
    if not _NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise ValueError(
            "--regimes must be names of letters, digits, _ and -, and none of "
            f"{', '.join(RESERVED_NAMES)}; such as {_EXAMPLE}. Received: "
            f"--regimes={text}"
        )
    settings: dict[str, int | str | float] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in settings:
            raise ValueError(
                f"{key} is given twice. Received: --regimes={text}; give it once."
            )
        settings[key] = _parse_value(text, key, value)
    if name == "head" and settings:
        raise ValueError(
            "The regime head has its own flags, --head_lr and --head_epochs, and no "
            f"settings in --regimes. Received: --regimes={text}"
        )
    if name not in KNOWN_REGIMES and "freeze" not in settings:
        raise ValueError(
            f"--regimes must be of {', '.join(KNOWN_REGIMES)}, or say what a regime of "
            f"another name freezes, such as {name}:freeze=100. Received: "
            f"--regimes={text}"
        )
    return RegimeSpec(name, **settings)  # type: ignore[arg-type]  # Checked below.


def _parse_value(text: str, key: str, value: str) -> int | str | float:
    """Returns the value of one setting, in the type of its field."""
    if key == "freeze" and value:
        return int(value) if value.isdecimal() else value
    if key == "lr":
        rate = _parse_float(value)
        if rate is not None and rate > 0 and math.isfinite(rate):
            return rate
    if (
        key in ("epochs", "steps")
        and value.isdecimal()
        and (int(value) or key[0] == "s")
    ):
        return int(value)
    raise ValueError(
        "The settings of a regime are freeze=LAYERS (a number or the name of the last "
        "one), lr=RATE, epochs=NUMBER and steps=NUMBER, with positive numbers, as in "
        f"{_EXAMPLE}. Received: {key}={value} in --regimes={text}"
    )


def _parse_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
