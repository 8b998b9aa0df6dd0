"""Describes the outcome of a comparison in figures, sentences and a table of text."""

from collections.abc import Mapping, Sequence

from pipeline.system.texts import escape_controls
from trainer.comparison.comparison import BROKEN, MENDED, STILL_WRONG, Comparison
from trainer.comparison.figures import Estimate
from trainer.comparison.run_results import RunResults

_MAX_VALUE_WIDTH = 60


def format_estimate(estimate: Estimate, *, signed: bool = False) -> str:
    """Returns for example "0.848 [0.767, 0.904]", or "1.000 [-]" without an interval.

    signed: write a + before a number that is not negative.
    """
    value = format_number(estimate.value, signed=signed)
    return f"{value} {format_interval(estimate, signed=signed)}"


def format_interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Returns for example "[0.767, 0.904]", or "[-]" where there is none."""
    if estimate.interval is None:
        return "[-]"
    low, high = (format_number(limit, signed=signed) for limit in estimate.interval)
    return f"[{low}, {high}]"


def format_number(value: float, *, signed: bool = False) -> str:
    """Returns a number with three digits; never "-0.000"."""
    rounded = round(value, 3) + 0.0
    return f"{rounded:+.3f}" if signed else f"{rounded:.3f}"


def format_p_value(comparison: Comparison) -> str:
    """Returns for example "p = 0.012, corrected for 3 comparisons"."""
    p_value = comparison.p_value
    text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    if comparison.num_comparisons > 1:
        text += f", corrected for {comparison.num_comparisons} comparisons"
    return text


def describe_outcome(comparison: Comparison) -> str:
    """Returns in one or two sentences whether the accuracies differ."""
    first, second = comparison.first.letter, comparison.second.letter
    more = comparison.wins - comparison.losses
    accuracy = comparison.differences["accuracy"]
    figures = f"{format_estimate(accuracy, signed=True)}, {format_p_value(comparison)}"
    amount = f"{abs(more)} {'fewer' if more < 0 else 'more'}"
    low, high = accuracy.interval or (-1.0, 1.0)
    if comparison.is_beyond_chance or low > 0 or high < 0:
        verdict = "the difference is beyond chance."
        if not comparison.is_beyond_chance:
            verdict = "this may still be chance; compare with more test photographs."
        return (
            f"{second} is right on {amount} of {comparison.count} test photographs "
            f"than {first} ({figures}): {verdict}"
        )
    if not more:
        amount = "as many"
    return (
        f"{second} and {first} cannot be told apart with {comparison.count} test "
        f"photographs: {second} is right on {amount} ({figures}). "
        f"{_describe_detectable(comparison)}"
    )


def _describe_detectable(comparison: Comparison) -> str:
    if comparison.detectable is None:
        return "With so few photographs, even the largest difference would not show."
    return (
        f"A difference of about {comparison.detectable:.2g} would show, with a chance "
        "of 80 %."
    )


def describe_changes(comparison: Comparison) -> str:
    """Returns how many photographs are mended, broken, or wrong in another way."""
    mended, broken, still_wrong = (
        len(comparison.changes_of(kind)) for kind in (MENDED, BROKEN, STILL_WRONG)
    )
    first, second = comparison.first.letter, comparison.second.letter
    return (
        f"{second} against {first}, of {comparison.count} photographs: {mended} mended "
        f"(only {second} is right), {broken} broken (only {first} is right), "
        f"{still_wrong} wrong in another way."
    )


def describe_runs(
    runs: Sequence[RunResults],
    figures: Sequence[Mapping[str, Estimate]],
    comparisons: Sequence[Comparison],
) -> str:
    """Returns all that the command prints of a comparison; see make_table."""
    names = [f"{run.letter}  {escape_controls(str(run.path))}" for run in runs]
    parts = [
        "\n".join(names) + f"\n{len(runs[0].names)} test photographs, "
        f"{len(runs[0].classes)} classes; in brackets the 95 % interval",
        make_table(runs, figures, comparisons),
    ]
    for comparison in comparisons:
        parts.append(
            f"{describe_outcome(comparison)}\n{describe_changes(comparison)}\n"
            f"{describe_settings(comparison)}"
        )
    return "\n\n".join(parts)


def make_table(
    runs: Sequence[RunResults],
    figures: Sequence[Mapping[str, Estimate]],
    comparisons: Sequence[Comparison],
) -> str:
    """Returns a table of text: for each figure one line a run.

    figures: those of each run, see figures.run_figures.
    """
    lines = [f"{'':<21}{'value':<24}difference to {runs[0].letter}"]
    for name in figures[0]:
        for index, run in enumerate(runs):
            title = "" if index else name
            line = f"{title:<18}{run.letter}  {format_estimate(figures[index][name])}"
            if index:
                difference = comparisons[index - 1].differences[name]
                line = f"{line:<45}{format_estimate(difference, signed=True)}"
            lines.append(line)
    return "\n".join(lines)


def describe_settings(comparison: Comparison) -> str:
    """Returns the settings that differ, one a line."""
    first, second = comparison.first.letter, comparison.second.letter
    if not comparison.settings:
        return f"no setting differs between {first} and {second}"
    lines = [f"settings that differ between {first} and {second}:"]
    width = max(len(setting.name) for setting in comparison.settings)
    for setting in comparison.settings:
        values = (_shorten(setting.first), _shorten(setting.second))
        lines.append(f"  {setting.name:<{width}}  {values[0]}  ->  {values[1]}")
    return "\n".join(lines)


def _shorten(value: str) -> str:
    shown = escape_controls(value) or "none"
    if len(shown) <= _MAX_VALUE_WIDTH:
        return shown
    return f"{shown[: _MAX_VALUE_WIDTH - 3]}..."
