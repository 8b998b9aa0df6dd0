"""Prints the outcome of a run."""

from collections.abc import Mapping
from typing import Any, Literal, cast

from pipeline.system.texts import escape_controls
from trainer.evaluation import advice
from trainer.evaluation.confidence_curve import describe_confidence
from trainer.evaluation.reliability import Estimate, Reliability, explain_full_sets
from trainer.evaluation.slices import describe_worst
from trainer.evaluation.summary import RegimeSummary, Summary, regime_summary


def print_outcome(summary: Summary, *, precision: str) -> None:
    """Prints the final figures, each with its sample count and interval.

    precision: the Keras dtype policy of the training.
    """
    print()
    if precision != "float32":
        print(f"evaluated in float32; the epochs computed in {precision}")
    print("in brackets: 95 % intervals; balanced: the mean accuracy of the classes")
    for name in summary["regimes"]:
        figures = regime_summary(summary, name)
        no_gain = ""
        if figures["epochs"] and not figures["best_epoch"]:
            no_gain = "; no epoch beat its starting weights"
        print(
            f"{name}, on {figures['val_count']} validation and "
            f"{figures['test_count']} test images{no_gain}:\n"
            f"  validation: {_format_figures(figures, 'val')}\n"
            f"  test: {_format_figures(figures, 'test')}"
        )
    _print_reliability(
        summary["reliability"],
        is_calibrated=summary["config"]["calibration"] != "none",
    )
    print(
        f"best on validation, by {summary['chosen_by'].replace('_', ' ')}: "
        f"{summary['best_regime']}; its weights are exported\n\n"
        f"{advice.describe_result(summary['test'])}",
        advice.advise(
            summary["test"],
            [escape_controls(name) for name in summary["classes"]],
            weights=summary["config"]["weights"],
        ),
        flush=True,
    )
    for sentence in (
        advice.name_never_predicted(summary["test"]),
        describe_confidence(summary["confidence_curve"]),
        describe_worst(summary["slices"]),
        summary["learning_curve"]["sentence"],
    ):
        if sentence is not None:
            print(escape_controls(sentence), flush=True)


def _print_reliability(reliability: Reliability, *, is_calibrated: bool) -> None:
    """Prints how far the replies can be trusted, measured on test."""
    before, after = (
        _format_estimate(reliability[when]["calibration_error"])
        for when in ("before", "after")
    )
    calibration = "; not calibrated (--calibration=none)"
    if is_calibrated:
        temperature = f"{reliability['temperature']:.3g}"
        calibration = f" with temperature {temperature},\n  {before} without it"
    print(
        f"probabilities: calibration error on test {after}{calibration}\n"
        f"prediction sets: {_format_estimate(reliability['covered'])} hold the true "
        f"class (asked: {reliability['coverage']:g}),\n  "
        f"{_format_estimate(reliability['set_size'])} classes on average"
    )
    full_sets = explain_full_sets(reliability)
    if full_sets is not None:
        print(f"  {full_sets}")
    print(
        f"unknown: {_format_estimate(reliability['unknown'])} of the test images of "
        f"known classes (allowed: {reliability['unknown_rate']:g})"
    )


def _format_estimate(estimate: Estimate) -> str:
    low, high = estimate["ci95"]
    return f"{estimate['value']:.3f} [{low:.3f}, {high:.3f}]"


def _format_figures(figures: RegimeSummary, split: Literal["val", "test"]) -> str:
    """Returns the figures of one split, each with its interval."""
    values = cast(Mapping[str, Any], figures)
    texts = []
    for name, interval, shown in (
        ("accuracy", "ci95", "accuracy"),
        ("balanced_accuracy", "balanced_accuracy_ci95", "balanced"),
        ("macro_f1", "macro_f1_ci95", "macro F1"),
    ):
        low, high = values[f"{split}_{interval}"]
        value = values[f"{split}_{name}"]
        texts.append(f"{shown} {value:.3f} [{low:.3f}, {high:.3f}]")
    return ", ".join(texts)
