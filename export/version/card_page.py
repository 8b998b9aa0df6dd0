"""Renders model_card.md."""

from collections.abc import Mapping
from typing import Any

from export.version.card_types import Data, Metrics, ModelCard
from pipeline.sources.images import SPLITS
from pipeline.system.texts import escape_controls, escape_markdown
from trainer.evaluation.metrics import format_share
from trainer.evaluation.reliability import Estimate, Reliability, explain_full_sets


def render_page(card: ModelCard) -> str:
    """Renders model_card.md."""
    model = card["model"]
    classes = ", ".join(map(escape_markdown, card["classes"]))
    lines = [
        "# Model card",
        "",
        f"Classifies photographs as {classes}. "
        f"{model['backbone']} ({model['initial_weights']} weights), regime "
        f"`{model['regime']}`, served in {model['precision']}. "
        f"Created {card['created']}.",
        "",
        *_metrics_lines(card["metrics"], model["precision"]),
        *_reliability_lines(card["reliability"]),
        *_data_lines(card["data"]),
        "## Input",
        "",
        *(f"- {name}: {_join(value)}" for name, value in card["preprocessing"].items()),
        "",
        "## Licences",
        "",
        *(f"- {name}: {licence}" for name, licence in card["licence"].items()),
        "",
        "## Versions",
        "",
        *(f"- {name} {version}" for name, version in card["versions"].items()),
    ]
    return "\n".join(lines) + "\n"


def _metrics_lines(metrics: Metrics, precision: str) -> list[str]:
    lines = [
        "## Accuracy",
        "",
        "Measured in float32, before the export; in brackets the 95 % interval.",
        "",
        "| split | photographs | accuracy | balanced accuracy | macro F1 |",
        "|---|---|---|---|---|",
        _accuracy_row("validation", metrics["validation"]),
        _accuracy_row("test", metrics["test"]),
        "",
    ]
    measured = metrics["served_precision"]
    if measured is not None:
        lines += [
            f"Served in {precision}, the accuracy on {measured['count']} test "
            f"photographs is {measured['served']:.3f}; in float32 it is "
            f"{measured['float32']:.3f}.",
            "",
        ]
    per_class = metrics["test"].get("per_class")
    if per_class:
        lines += [
            "| class | recall, of its test photographs | precision, of those predicted "
            "as it |",
            "|---|---|---|",
            *(_class_row(name, row) for name, row in per_class.items()),
            "",
        ]
    return lines


def _class_row(name: str, row: Mapping[str, Any]) -> str:
    """Returns a row of the table; runs of earlier versions have no intervals."""
    cells = [f"{row['recall']:.3f} of {row['count']}", f"{row['precision']:.3f}"]
    if "recall_ci95" in row:
        cells = [
            format_share(row["recall"], row["recall_ci95"], row["count"]),
            format_share(
                row["precision"], row["precision_ci95"], row["predicted_count"]
            ),
        ]
    return f"| {escape_markdown(name)} | {' | '.join(cells)} |"


def _accuracy_row(split: str, metrics: Mapping[str, Any]) -> str:
    if metrics["accuracy"] is None:
        return f"| {split} | not measured | | | |"
    cells = [
        _format_figure(metrics.get(name), metrics.get(interval))
        for name, interval in (
            ("accuracy", "ci95"),
            ("balanced_accuracy", "balanced_accuracy_ci95"),
            ("macro_f1", "macro_f1_ci95"),
        )
    ]
    return f"| {split} | {metrics['count']} | {' | '.join(cells)} |"


def _format_figure(value: float | None, interval: list[float] | None) -> str:
    """Returns a figure with its 95 % interval; runs of earlier versions lack some."""
    if value is None or interval is None:
        return "not measured"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _reliability_lines(reliability: Reliability) -> list[str]:
    before, after = reliability["before"], reliability["after"]
    full_sets = explain_full_sets(reliability)
    return [
        "## Reliability",
        "",
        f"Measured on {after['loss']['count']} test photographs, fitted on "
        f"{reliability['val_count']} of validation; 95 % intervals in brackets.",
        "",
        f"- Temperature of the probabilities: {reliability['temperature']:.4g}.",
        *(
            f"- {title}: {_format_estimate(without)} without it, "
            f"{_format_estimate(with_it)} with it."
            for title, without, with_it in (
                ("Loss (nats)", before["loss"], after["loss"]),
                ("Brier score", before["brier"], after["brier"]),
                (
                    "Calibration error",
                    before["calibration_error"],
                    after["calibration_error"],
                ),
            )
        ),
        "- `in_set` holds the true class for "
        f"{_format_estimate(reliability['covered'])} of them (asked: "
        f"{reliability['coverage']:g}); mean number of classes "
        f"{_format_estimate(reliability['set_size'])}."
        + (f" {full_sets}" if full_sets else ""),
        f"- `is_unknown` for {_format_estimate(reliability['unknown'])} of photographs "
        f"of known classes (allowed: {reliability['unknown_rate']:g}).",
        "",
    ]


def _format_estimate(estimate: Estimate) -> str:
    low, high = estimate["ci95"]
    return f"{estimate['value']:.3f} [{low:.3f}, {high:.3f}]"


def _data_lines(data: Data) -> list[str]:
    source = escape_controls(str(data["source"])).replace("`", "'")
    lines = ["## Training data", "", f"Source: `{source}`.", ""]
    if data["images"]:
        lines += [
            f"| class | {' | '.join(SPLITS)} |",
            "|---" * (1 + len(SPLITS)) + "|",
            *(
                f"| {escape_markdown(name)} | "
                f"{' | '.join(str(count[split]) for split in SPLITS)} |"
                for name, count in data["images_per_class"].items()
            ),
            "",
            "Near duplicates are in the same split, so no test photograph has a near "
            "duplicate in the training split.",
            "",
        ]
    return lines


def _join(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
