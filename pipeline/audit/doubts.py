"""Finds photographs of doubtful quality: they are used, and a person should look.

Each limit is far from the values of ordinary photographs, so that few of them get a
doubt. benchmarks/photograph_quality.py measures how many do, and how many bad
photographs are found.
"""

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.inspection.image_report import ImageReport

# Grey values from 0 to 255; see quality.Quality.
DARK_BELOW = 64
BRIGHT_ABOVE = 192
LOW_CONTRAST_BELOW = 32
BLURRED_BELOW = 0.25
# Ratio of the longer side to the shorter one.
ELONGATED_ABOVE = 3
# Ratio of the side of a square of the same area to the median of the class, and its
# inverse.
ODD_SIZE_FACTOR = 4
_MIN_IMAGES_FOR_SIZE = 5

MEANINGS: Mapping[str, str] = {
    "dark": f"nearly all pixels are darker than {DARK_BELOW} of 255",
    "bright": f"nearly all pixels are lighter than {BRIGHT_ABOVE} of 255",
    "low contrast": (
        f"nearly all pixels are within {LOW_CONTRAST_BELOW} of 255 grey values"
    ),
    "blurred": "no sharp edge, even when the photograph is reduced to 64 pixels",
    "elongated": f"the longer side is more than {ELONGATED_ABOVE} times the shorter",
    "odd size": (
        f"more than {ODD_SIZE_FACTOR} times larger or smaller, a side, than is usual "
        "in its class"
    ),
}


def find_doubts(reports: Sequence[ImageReport]) -> dict[str, dict[str, str]]:
    """Returns name -> doubt -> what was measured, of each photograph with a doubt.

    A doubt is a key of MEANINGS.

    reports: of all images that are used.
    """
    usual_side_of = _find_usual_sides(reports)
    doubts_of = {}
    for report in reports:
        usual_side = usual_side_of.get(report.image.label)
        doubts = _doubts_by_pixels(report) | _doubts_by_size(report, usual_side)
        if doubts:
            doubts_of[report.image.name] = doubts
    return doubts_of


def _doubts_by_pixels(report: ImageReport) -> dict[str, str]:
    measured = report.quality
    if measured is None:
        return {}
    doubts = {}
    if measured.lightest < DARK_BELOW:
        doubts["dark"] = f"lightest {measured.lightest} of 255"
    if measured.darkest > BRIGHT_ABOVE:
        doubts["bright"] = f"darkest {measured.darkest} of 255"
    if measured.lightest - measured.darkest < LOW_CONTRAST_BELOW:
        doubts["low contrast"] = f"{measured.darkest} to {measured.lightest} of 255"
    # Without contrast there is no edge to judge.
    elif measured.sharpness is not None and measured.sharpness < BLURRED_BELOW:
        doubts["blurred"] = f"sharpness {measured.sharpness:.2f}"
    return doubts


def _doubts_by_size(report: ImageReport, usual_side: float | None) -> dict[str, str]:
    shorter, longer = sorted((report.width, report.height))
    size = f"{report.width} x {report.height} pixels"
    doubts = {}
    if longer > ELONGATED_ABOVE * shorter:
        doubts["elongated"] = size
    if usual_side is not None:
        ratio = _side(report) / usual_side
        if not 1 / ODD_SIZE_FACTOR <= ratio <= ODD_SIZE_FACTOR:
            doubts["odd size"] = f"{size}, usual side {usual_side:.0f}"
    return doubts


def _find_usual_sides(reports: Sequence[ImageReport]) -> dict[str, float]:
    """Returns class -> median side in pixels, of the classes with enough images."""
    sides_of: dict[str, list[float]] = collections.defaultdict(list)
    for report in reports:
        sides_of[report.image.label].append(_side(report))
    return {
        label: float(np.median(sides))
        for label, sides in sides_of.items()
        if len(sides) >= _MIN_IMAGES_FOR_SIZE
    }


def _side(report: ImageReport) -> float:
    return math.sqrt(report.width * report.height)
