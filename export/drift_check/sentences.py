"""Describes the result of a comparison in sentences."""

from export.drift_check.comparison import DriftReport
from export.drift_check.effects import MeanShift, ShareShift
from export.drift_check.image_measures import MEASURES
from pipeline.system.texts import escape_controls

# Drift is found if p is below this limit, unless --fail_below gives another.
DEFAULT_LIMIT = 0.01
# With fewer photographs, only large changes are found.
_FEW = 50
_MAX_CLASSES = 3
_TINY_P = 0.0001

# Test -> what differs.
TESTS = {
    "embedding": "what the photographs look like to the model (kernel two-sample test "
    "of the embeddings)",
    "appearance": "brightness, contrast, saturation and sharpness (kernel two-sample "
    "test)",
    "class_shares": "shares of the predicted classes (chi-squared)",
    "missing_class": "whether one of the classes is missing (likelihood ratio of the "
    "probabilities)",
    "confidence": "confidence, the largest probability (Mann-Whitney)",
    "unknown_score": "unknown_score (Mann-Whitney)",
}


def headline(report: DriftReport, limit: float) -> str:
    """Returns whether drift was found, with the evidence, in one line.

    limit: drift is found if p is below it.
    """
    counts = report["photographs"]
    evidence = (
        f"p {describe_p(report['p'])}, {counts['compared']} new photographs against "
        f"{counts['reference']} of the reference"
    )
    if report["p"] < limit:
        return f"drift found ({evidence})"
    line = f"no drift found ({evidence}, limit {limit:g})"
    if counts["compared"] < _FEW:
        line += f"; fewer than {_FEW} photographs show only large changes"
    return line


def describe_p(p_value: float) -> str:
    """Returns a p-value as "= 0.034" or, if it is tiny, "< 0.0001"."""
    return f"= {p_value:.2g}" if p_value >= _TINY_P else f"< {_TINY_P:.4f}"


def list_changes(report: DriftReport, limit: float) -> list[str]:
    """Returns one sentence for each difference that is beyond chance.

    A difference needs a test whose p-value is below the limit. A class or a measure
    also needs a difference whose 95 % interval does not contain 0.

    limit: see headline.
    """
    if report["p"] >= limit:
        return []
    tests = report["tests"]
    lines = []
    shares, missing = report["class_shares"], None
    if tests["missing_class"] < limit:
        missing = report["missing_class"]
        (shift,) = (each for each in shares if each["name"] == missing)
        lines.append(
            f"{escape_controls(missing)} is missing, or nearly: {describe_share(shift)}"
        )
    if tests["class_shares"] < limit:
        changed = [s for s in shares if _is_clear(s["ci95"]) and s["name"] != missing]
        lines += [describe_share(shift) for shift in changed[:_MAX_CLASSES]]
    if tests["confidence"] < limit:
        lines.append(describe_mean(report["confidence"], "the mean confidence is"))
    if report["unknown_score"] is not None and tests["unknown_score"] < limit:
        line = describe_mean(report["unknown_score"], "the mean unknown_score is")
        lines.append(line)
    looks = _describe_looks(report) if tests["appearance"] < limit else []
    if tests["embedding"] < limit and not looks:
        looks = [
            "they look different to the model, but not clearly in brightness, "
            "contrast, saturation or sharpness: see the most unusual photographs"
        ]
    lines += looks
    return lines


def _describe_looks(report: DriftReport) -> list[str]:
    words = {measure.name: measure for measure in MEASURES}
    lines = []
    for shift in report["measures"]:
        measure = words.get(shift["name"])
        if measure is None or not _is_clear(shift["ci95"]):
            continue
        word = measure.higher if shift["difference"] > 0 else measure.lower
        lines.append(
            describe_mean(shift, f"they are {word}: the mean {measure.name} is")
        )
    return lines


def _is_clear(ci95: list[float]) -> bool:
    low, high = ci95
    return low > 0 or high < 0


def describe_share(shift: ShareShift) -> str:
    """Returns a sentence about the change of the share of a class."""
    low, high = shift["ci95"]
    return (
        f"{shift['new']:.0%} of the new photographs are predicted as "
        f"{escape_controls(shift['name'])}, against {shift['reference']:.0%} of the "
        f"reference (difference {100 * shift['difference']:+.0f} points "
        f"[{100 * low:+.0f}, {100 * high:+.0f}])"
    )


def describe_mean(shift: MeanShift, subject: str) -> str:
    """Returns a sentence about the change of a mean.

    subject: the beginning of the sentence, up to its verb.
    """
    low, high = shift["ci95"]
    return (
        f"{subject} {shift['new']:.3g}, against {shift['reference']:.3g} in the "
        f"reference (difference {shift['difference']:+.2g} [{low:+.2g}, {high:+.2g}])"
    )


def describe_counts(report: DriftReport) -> list[str]:
    """Returns sentences about the photographs that are not compared."""
    counts = report["photographs"]
    lines = []
    if counts["near_duplicates"]:
        lines.append(
            "not compared, because near duplicates of other new photographs: "
            f"{counts['near_duplicates']}; a burst is no independent evidence"
        )
    if counts["left_out"]:
        first = report["left_out"][0]
        lines.append(
            f"left out, because not readable: {counts['left_out']}; the first is "
            f"{escape_controls(first['name'])}: {escape_controls(first['reason'])}"
        )
    return lines
