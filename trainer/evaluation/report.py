"""Writes report.html, and its charts as PNG files."""

import base64
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from pipeline.loading.prepared_data import Records
from pipeline.system import files, templates
from trainer.evaluation import advice, figures, photographs
from trainer.evaluation.confidence_curve import describe_confidence
from trainer.evaluation.curve_figures import draw_confidence_curve, draw_learning_curve
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.metrics import Metrics, format_share
from trainer.evaluation.photographs import Photograph
from trainer.evaluation.reliability import explain_full_sets
from trainer.evaluation.summary import Summary, regime_summary
from trainer.models.classifier import Classifier

_TEMPLATES = pathlib.Path(__file__).parent / "templates"
# The rows of a table that are not folded away.
_MAX_ROWS = 30


class ClassRow(NamedTuple):
    """A class in the report; recall and precision as texts, with their intervals."""

    name: str
    recall: str
    precision: str
    recall_value: float


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The results of the best weights for the N images of the test split, in its order.

    records: the test split. names: of its photographs.
    probabilities: float64 [N, K], range [0, 1], calibrated.
    scores: float32 [N], unknown scores.
    labels: int32 [N].
    """

    records: Records
    names: Sequence[str]
    probabilities: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def write_report(
    model_dir: pathlib.Path,
    *,
    summary: Summary,
    history: Sequence[EpochMetrics],
    classifier: Classifier,
    train_records: Records,
    test: Evaluated,
) -> None:
    """Writes report.html, and its charts as PNG files.

    Args:
      history: the lines of metrics.jsonl.
      classifier: the one that was evaluated.
      train_records: the training split.
      test: the test split and its results.
    """
    classes = summary["classes"]
    image_size = summary["config"]["image_size"]
    shown = {
        "errors": photographs.show_errors(
            classifier,
            test.records,
            test.names,
            test.probabilities,
            test.labels,
            classes=classes,
            image_size=image_size,
        ),
        "unusual": photographs.show_unusual(
            test.records,
            test.names,
            test.scores,
            test.labels,
            classes=classes,
            image_size=image_size,
        ),
        "augmented": photographs.show_augmented(
            train_records,
            classes=classes,
            preset=summary["config"]["augment"],
            image_size=image_size,
        ),
    }
    charts = {
        "curves": figures.draw_curves(history),
        "confusion": figures.draw_confusion(
            np.array(summary["test"]["confusion"]), classes
        ),
        "reliability": figures.draw_reliability(summary["reliability"]["bins"]),
        "confidence": draw_confidence_curve(summary["confidence_curve"]),
    }
    if summary["learning_curve"]["points"]:
        charts["learning"] = draw_learning_curve(summary["learning_curve"])
    folder = model_dir / "report"
    folder.mkdir(exist_ok=True)
    encoded = {name: _encode_png(chart) for name, chart in charts.items()}
    for name, png in encoded.items():
        (folder / f"{name}.png").write_bytes(png)
    files.write_text(model_dir / "report.html", render_page(summary, encoded, shown))


def render_page(
    summary: Summary,
    charts: dict[str, bytes],
    shown: dict[str, list[Photograph]],
) -> str:
    """Renders report.html, which needs no other file.

    charts: PNG files: curves, confusion, reliability, confidence and, if there is a
      learning curve, learning.
    shown: photographs: errors, unusual, augmented.
    """
    return templates.render(
        _TEMPLATES,
        "report.html",
        escape_html=True,
        sentence=advice.describe_result(summary["test"]),
        advice=advice.advise(
            summary["test"], summary["classes"], weights=summary["config"]["weights"]
        ),
        test=summary["test"],
        never_predicted=advice.name_never_predicted(summary["test"]),
        class_rows=_describe_classes(summary["test"]),
        max_rows=_MAX_ROWS,
        max_confusion=figures.MAX_CONFUSION_CLASSES,
        confidence_sentence=describe_confidence(summary["confidence_curve"]),
        slices=sorted(summary["slices"], key=lambda each: each["adjusted_p_value"]),
        learning_curve=summary["learning_curve"],
        reliability=summary["reliability"],
        full_sets=explain_full_sets(summary["reliability"]),
        best_regime=summary["best_regime"],
        regimes={name: regime_summary(summary, name) for name in summary["regimes"]},
        config=summary["config"],
        charts={
            name: f"data:image/png;base64,{base64.b64encode(png).decode()}"
            for name, png in charts.items()
        },
        shown=shown,
    )


def _describe_classes(test: Metrics) -> list[ClassRow]:
    """Returns a row for each class; of many classes, the least recall comes first."""
    rows = [
        ClassRow(
            name=name,
            recall=format_share(each["recall"], each["recall_ci95"], each["count"]),
            precision=format_share(
                each["precision"], each["precision_ci95"], each["predicted_count"]
            ),
            recall_value=each["recall"],
        )
        for name, each in test["per_class"].items()
    ]
    if len(rows) > _MAX_ROWS:
        rows.sort(key=lambda row: row.recall_value)
    return rows


def _encode_png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()
