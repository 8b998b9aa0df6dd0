"""Evaluates the best weights of a run and writes summary.json and the report."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import Records
from pipeline.system import files
from trainer.config.class_balance import rank, read_balance
from trainer.config.regimes import make_regimes
from trainer.config.run_files import PREDICTIONS_FILE
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation import metrics, outcome, report
from trainer.evaluation.confidence_curve import measure_confidence_curve
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.image_properties import measure_images
from trainer.evaluation.predictions import write_predictions
from trainer.evaluation.reliability import measure_reliability
from trainer.evaluation.slices import Slice, compare_slices, select_slices
from trainer.evaluation.summary import RegimeSummary, Summary, make_summary
from trainer.postprocessing import postprocessing as postprocessing_file
from trainer.postprocessing.postprocessing import (
    Postprocessing,
    fit_postprocessing,
)
from trainer.postprocessing.unknown import (
    UnknownScorer,
)
from trainer.split_outputs import Outputs, evaluate_splits
from trainer.training import run_config, run_dir


def evaluate_run(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classes: Sequence[str],
    history: Sequence[EpochMetrics],
) -> Summary | None:
    """Evaluates the best weights of each regime in float32, and writes the results.

    This is the first time that a run reads the test split.

    Args:
      history: the lines of metrics.jsonl.

    Returns:
      The content of summary.json; None on a worker that is not the chief.
    """
    names = list(dict.fromkeys(line["regime"] for line in history))
    with runtime.strategy.scope():
        classifiers = [
            run_dir.restore_classifier(config, classes, model_dir, name)
            for name in names
        ]
    scorers, validation, test = evaluate_splits(runtime, config, classifiers)
    if not runtime.is_chief:
        return None
    regimes = _summarise_regimes(
        config, classes, history, validation=validation, test=test
    )
    balance = read_balance(config, classes)
    best = max(
        range(len(names)), key=lambda i: rank(regimes[names[i]], balance.chosen_by)
    )
    postprocessing = _fit_postprocessing(config, validation, best, scorers[best])
    calibrated_logits = test.logits[:, best] / postprocessing.temperature
    probabilities = metrics.softmax(calibrated_logits)
    records = prepared_data.read_records(config.data_dir, "test")
    summary = make_summary(
        classes=list(classes),
        regimes=regimes,
        best_regime=names[best],
        chosen_by=balance.chosen_by,
        class_weights=list(balance.weights),
        test=metrics.compute_metrics(calibrated_logits, test.labels, classes),
        reliability=measure_reliability(
            postprocessing, test.logits[:, best], test.scores[:, best], test.labels
        ),
        slices=_compare_slices(config, classes, records, test, best),
        confidence_curve=measure_confidence_curve(probabilities, test.labels),
        learning_curve=run_dir.read_learning_curve(model_dir),
        search=run_config.read_search(model_dir),
        config=dataclasses.asdict(config),
    )
    outcome.print_outcome(summary, precision=runtime.precision)
    photographs = prepared_data.read_names(records)
    path = model_dir / PREDICTIONS_FILE
    write_predictions(path, photographs, test.labels, probabilities, classes)
    report.write_report(
        model_dir,
        summary=summary,
        history=history,
        classifier=classifiers[best],
        train_records=prepared_data.read_records(config.data_dir, "train"),
        test=report.Evaluated(
            records, photographs, probabilities, test.scores[:, best], test.labels
        ),
    )
    postprocessing_file.write(model_dir / postprocessing_file.FILE, postprocessing)
    files.write_json(model_dir / run_dir.SUMMARY_FILE, summary)
    return summary


def _fit_postprocessing(
    config: TrainConfig, validation: Outputs, index: int, scorer: UnknownScorer
) -> Postprocessing:
    """Fits the constants of a reply of one classifier."""
    return fit_postprocessing(
        validation.logits[:, index],
        validation.scores[:, index],
        validation.labels,
        scorer=scorer,
        calibrated=config.calibration == "temperature",
        coverage=config.coverage,
        unknown_rate=config.unknown_rate,
    )


def _compare_slices(
    config: TrainConfig,
    classes: Sequence[str],
    records: Records,
    test: Outputs,
    index: int,
) -> list[Slice]:
    """Compares the accuracy of one classifier on slices of the test split."""
    selections = select_slices(
        measure_images(records, config.image_size),
        test.heat_centres[:, index],
        test.labels,
        classes,
    )
    is_correct = test.logits[:, index].argmax(axis=1) == test.labels
    return compare_slices(selections, is_correct)


def _summarise_regimes(
    config: TrainConfig,
    classes: Sequence[str],
    history: Sequence[EpochMetrics],
    *,
    validation: Outputs,
    test: Outputs,
) -> dict[str, RegimeSummary]:
    """Returns the results of each regime, in the order of the training."""
    results = {regime.name: regime.result for regime in make_regimes(config)}
    regimes: dict[str, RegimeSummary] = {}
    for index, name in enumerate(dict.fromkeys(line["regime"] for line in history)):
        is_unchanged = index > 0 and np.array_equal(
            validation.logits[:, index], validation.logits[:, index - 1]
        )
        regimes[name] = _summarise_regime(
            [line for line in history if line["regime"] == name],
            results[name],
            validation=metrics.compute_metrics(
                validation.logits[:, index], validation.labels, classes
            ),
            test=metrics.compute_metrics(test.logits[:, index], test.labels, classes),
            is_unchanged=is_unchanged,
        )
    return regimes


def _summarise_regime(
    lines: Sequence[EpochMetrics],
    result: str,
    *,
    validation: metrics.Metrics,
    test: metrics.Metrics,
    is_unchanged: bool,
) -> RegimeSummary:
    """Returns the results of one regime.

    lines: those of the regime in metrics.jsonl. result: that of its Regime.
    is_unchanged: it ended with the weights of the regime before.
    """
    return RegimeSummary(
        val_accuracy=validation["accuracy"],
        val_loss=validation["loss"],
        val_count=validation["count"],
        val_ci95=validation["ci95"],
        val_balanced_accuracy=validation["balanced_accuracy"],
        val_balanced_accuracy_ci95=validation["balanced_accuracy_ci95"],
        val_macro_f1=validation["macro_f1"],
        val_macro_f1_ci95=validation["macro_f1_ci95"],
        test_accuracy=test["accuracy"],
        test_loss=test["loss"],
        test_count=test["count"],
        test_ci95=test["ci95"],
        test_balanced_accuracy=test["balanced_accuracy"],
        test_balanced_accuracy_ci95=test["balanced_accuracy_ci95"],
        test_macro_f1=test["macro_f1"],
        test_macro_f1_ci95=test["macro_f1_ci95"],
        epochs=sum(line["epoch"] > 0 for line in lines),
        best_epoch=0 if is_unchanged else _find_best_epoch(lines, result),
        seconds=sum(line["seconds"] + line["val_seconds"] for line in lines),
    )


def _find_best_epoch(lines: Sequence[EpochMetrics], result: str) -> int:
    if result == "average":
        return max(line["epoch"] for line in lines)
    return max((line["epoch"] for line in lines if line["best"]), default=0)
