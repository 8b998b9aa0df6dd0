"""Defines the settings of a classifier's head."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """The settings of a head.

    Its layers: pooling, normalisation, Dense(units, relu), dropout, Dense(classes).
    With units=0 there is no hidden layer, and dropout drops the pooled features.

    pooling: "avg" or "max".
    units: units of the hidden layer, or 0.
    dropout: share of the hidden units that training drops, in [0, 1).
    normalized: divides the pooled features of an image by their root mean square.
    """

    pooling: str
    units: int
    dropout: float
    normalized: bool = False
