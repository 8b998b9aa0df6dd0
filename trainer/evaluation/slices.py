"""Compares slices of the test split with the rest, to see where a classifier fails."""

import dataclasses
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from trainer.evaluation import metrics
from trainer.evaluation.image_properties import ImageProperties

# A slice of a number holds the lowest or the highest fifth.
_SHARE = 0.2
# A comparison with fewer images shows nothing, and each comparison more weakens the
# others.
_MIN_IMAGES = 5
# Of the slices that are marked as worse, at most this share is marked wrongly, on
# average.
_FALSE_DISCOVERY_RATE = 0.05

_SHARPNESS = "variance of the Laplacian {}"
_ASPECT = "longer side {} times the shorter"
_PLACE = "what the network looks at is off the middle: {} % of the way to the edge"


class Slice(TypedDict):
    """A slice of the test split, compared with the rest of it.

    property: what the photographs have in common, such as "brightness".
    name: in a word, such as "dark". meaning: exactly, with the threshold.
    accuracy, ci95, count: of the slice; the interval is Wilson's, 95 %.
    rest_accuracy, rest_count: of all other test photographs.
    p_value: how likely it is by chance that the slice is so much worse (Fisher's exact
      test, one-sided).
    adjusted_p_value: corrected for the number of slices (Benjamini and Hochberg, 1995).
    is_worse: it is worse than the rest beyond chance: adjusted_p_value <= 0.05.
    """

    property: str
    name: str
    meaning: str
    accuracy: float
    ci95: list[float]
    count: int
    rest_accuracy: float
    rest_count: int
    p_value: float
    adjusted_p_value: float
    is_worse: bool


@dataclasses.dataclass(frozen=True)
class Selection:
    """The photographs of a slice; see Slice.

    is_in: bool [N].
    """

    property: str
    name: str
    meaning: str
    is_in: np.ndarray


def select_slices(
    properties: ImageProperties,
    heat_centres: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
) -> list[Selection]:
    """Selects slices of N photographs by properties that a person can see.

    Args:
      properties: of the photographs.
      heat_centres: float [N, 2], where the network looks; see saliency.find_centre.
      labels: int [N].
      classes: names in the order of the labels.
    """
    width, height = properties.width, properties.height
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    # 0 in the middle, 1 on the edge of the frame.
    distance = np.abs(heat_centres).max(axis=1)
    low, high = _select_lowest, _select_highest
    selections = [
        low("brightness", "dark", "mean brightness {} of 255", properties.brightness),
        high(
            "brightness", "bright", "mean brightness {} of 255", properties.brightness
        ),
        low("sharpness", "blurred", _SHARPNESS, properties.sharpness),
        high("sharpness", "full of fine detail", _SHARPNESS, properties.sharpness),
        low("size", "small", "shorter side {} px", shorter),
        high("size", "large", "shorter side {} px", shorter),
        low("aspect", "nearly square", _ASPECT, longer / shorter),
        high("aspect", "elongated", _ASPECT, longer / shorter),
        Selection("aspect", "upright", "taller than wide", height > width),
        low("colour", "pale", "saturation {} of 100", 100 * properties.saturation),
        high("colour", "vivid", "saturation {} of 100", 100 * properties.saturation),
        *(
            Selection(
                "colour",
                f"mostly {colour}",
                f"{colour} has the largest share of the colour",
                properties.colour == colour,
            )
            for colour in np.unique(properties.colour).tolist()
        ),
        high("place", "away from the middle", _PLACE, 100 * distance),
        *(
            Selection("class", name, f"photographs of the class {name}", labels == k)
            for k, name in enumerate(classes)
        ),
    ]
    return [selection for selection in selections if _is_large(selection.is_in)]


def compare_slices(
    selections: Sequence[Selection], is_correct: np.ndarray
) -> list[Slice]:
    """Compares the accuracy of each slice with that of all other photographs.

    Args:
      selections: of the same N photographs; none holds all of them.
      is_correct: bool [N].

    Returns:
      The slices, the least likely by chance first.
    """
    from scipy import stats

    if not selections:
        return []
    tables = [
        [
            [int((side & right).sum()) for right in (is_correct, ~is_correct)]
            for side in (selection.is_in, ~selection.is_in)
        ]
        for selection in selections
    ]
    p_values = [
        float(stats.fisher_exact(table, alternative="less").pvalue) for table in tables
    ]
    adjusted = stats.false_discovery_control(p_values, method="bh")
    slices = [
        _describe(selection, table, p_value, float(adjusted_p_value))
        for selection, table, p_value, adjusted_p_value in zip(
            selections, tables, p_values, adjusted, strict=True
        )
    ]
    return sorted(slices, key=lambda each: each["p_value"])


def describe_worst(slices: Sequence[Slice]) -> str | None:
    """Returns a sentence about the worst slice that is marked; None if none is."""
    marked = [each for each in slices if each["is_worse"]]
    if not marked:
        return None
    worst = marked[0]
    low, high = worst["ci95"]
    return (
        f"The model fails more often on '{worst['name']}' ({worst['meaning']}): "
        f"{worst['accuracy']:.1%} of {worst['count']} are right (95 % interval: "
        f"{low:.1%} to {high:.1%}), of the other {worst['rest_count']} "
        f"{worst['rest_accuracy']:.1%}. {len(marked)} of {len(slices)} slices are "
        "worse beyond chance."
    )


def _select_lowest(
    property_name: str, name: str, meaning: str, values: np.ndarray
) -> Selection:
    """Selects the lowest fifth of the values; fewer where many values are equal."""
    threshold = np.quantile(values, _SHARE)
    meaning = meaning.format(f"below {_format(threshold)}")
    return Selection(property_name, name, meaning, values < threshold)


def _select_highest(
    property_name: str, name: str, meaning: str, values: np.ndarray
) -> Selection:
    """Selects the highest fifth of the values; fewer where many values are equal."""
    threshold = np.quantile(values, 1 - _SHARE)
    meaning = meaning.format(f"above {_format(threshold)}")
    return Selection(property_name, name, meaning, values > threshold)


def _format(threshold: float) -> str:
    """Returns a number with three digits; from 100 on, as a whole number."""
    return f"{threshold:,.0f}" if threshold >= 100 else f"{threshold:.3g}"


def _is_large(is_in: np.ndarray) -> bool:
    return _MIN_IMAGES <= is_in.sum() <= len(is_in) - _MIN_IMAGES


def _describe(
    selection: Selection,
    table: list[list[int]],
    p_value: float,
    adjusted_p_value: float,
) -> Slice:
    """Makes the Slice of a selection.

    table: numbers of right and wrong predictions, of the slice and of the rest.
    """
    (right, wrong), (rest_right, rest_wrong) = table
    count, rest_count = right + wrong, rest_right + rest_wrong
    return Slice(
        property=selection.property,
        name=selection.name,
        meaning=selection.meaning,
        accuracy=right / count,
        ci95=list(metrics.confidence_interval(right, count)),
        count=count,
        rest_accuracy=rest_right / rest_count,
        rest_count=rest_count,
        p_value=p_value,
        adjusted_p_value=adjusted_p_value,
        is_worse=adjusted_p_value <= _FALSE_DISCOVERY_RATE,
    )
