"""Tests what the page and the terminal say about very few test images."""

import html
import re

import numpy as np
import pytest

from trainer.evaluation import outcome, report
from trainer.evaluation.confidence_curve import measure_confidence_curve
from trainer.evaluation.learning_curve import make_empty_curve
from trainer.evaluation.metrics import compute_metrics, softmax
from trainer.evaluation.reliability import measure_reliability
from trainer.evaluation.summary import RegimeSummary, Summary, make_summary
from trainer.postprocessing.postprocessing import fit_postprocessing
from trainer.postprocessing.unknown import fit_scorer

CLASSES = ["daisy", "rose"]
CHARTS = dict.fromkeys(("curves", "confusion", "reliability", "confidence"), b"")


def _summarise(
    predicted, labels, *, val_count: int = 9, calibration: str = "temperature"
) -> Summary:
    """The summary of a head that predicts these classes of some test images."""
    logits = 2 * np.eye(len(CLASSES), dtype=np.float32)[predicted]
    labels, scores = np.array(labels), np.zeros(len(labels), np.float32)
    fitted = fit_postprocessing(
        np.resize(logits, (val_count, len(CLASSES))),
        np.zeros(val_count, np.float32),
        np.resize(predicted, val_count),
        scorer=fit_scorer(logits, logits),
        calibrated=calibration == "temperature",
        coverage=0.9,
        unknown_rate=0.05,
    )
    test = compute_metrics(logits, labels, CLASSES)
    figures = {
        f"{split}_{name}": value
        for split in ("val", "test")
        for name, value in test.items()
    }
    return make_summary(
        classes=CLASSES,
        regimes={
            "head": RegimeSummary(**figures, epochs=0, best_epoch=0, seconds=1.0)  # type: ignore[typeddict-item]
        },
        best_regime="head",
        chosen_by="accuracy",
        class_weights=[],
        test=test,
        reliability=measure_reliability(fitted, logits, scores, labels),
        slices=[],
        confidence_curve=measure_confidence_curve(softmax(logits), labels),
        learning_curve=make_empty_curve("No learning curve."),
        search=None,
        config={
            **{"weights": "imagenet", "calibration": calibration},
            **{"augment": "light", "check_labels": False},
        },
    )


def _render(summary: Summary) -> str:
    """Returns the text of the page, its lines joined."""
    shown: dict = {"errors": [], "unusual": [], "augmented": []}
    page = report.render_page(summary, CHARTS, shown)
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _print(summary: Summary, capsys) -> str:
    outcome.print_outcome(summary, precision="float32")
    return capsys.readouterr().out


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1, 1, 1]])
def test_all_predictions_right_on_few_images_is_said_without_nonsense(labels, capsys):
    summary = _summarise(labels, labels)
    text, printed = _render(summary), _print(summary, capsys)
    count = len(labels)
    assert f"100.0% of {count} test images correctly" in text
    assert f"The {count} test images are too few to compare some of them" in text
    assert "corrected for" not in text
    assert "0 of 0" not in text
    assert "There was no error on the test split." in text
    for words in (text, printed):
        assert not re.search(r"\bnan\b|\binf\b|None", words)
        # Both images are not "the 80 % that it is surest of".
        assert ("with the highest confidence" in words) == (count > 2)
        assert "hold every class" not in words
        assert "No test image was predicted as" not in words


def test_a_class_that_is_never_predicted_is_named(capsys):
    summary = _summarise([0, 0, 0], [0, 0, 1])
    sentence = "No test image was predicted as 'rose': check the labels there"
    text = _render(summary)
    assert sentence in text
    assert "rose 0.000 [0.000, 0.793] of 1 no image" in text
    assert sentence in _print(summary, capsys)


def test_too_few_validation_images_for_sets_are_said_once(capsys):
    summary = _summarise([0, 1], [0, 1], val_count=8)
    sentence = (
        "Prediction sets hold every class: --coverage=0.9 needs 9 validation images, "
        "and there are 8."
    )
    assert _render(summary).count(sentence) == 1
    assert _print(summary, capsys).count(sentence) == 1


def test_probabilities_that_are_not_calibrated_have_no_temperature(capsys):
    summary = _summarise([0, 1], [0, 1], calibration="none")
    for words in (_render(summary), _print(summary, capsys)):
        assert "not calibrated" in words
        assert "--calibration=none" in words
        assert "temperature" not in words
