"""Evaluates the best weights of a run and writes summary.json and the report."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import Records
from pipeline.system import files
from trainer.config.class_balance import rank, read_balance
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate, metrics, outcome, report
from trainer.evaluation.confidence_curve import measure_confidence_curve
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.image_properties import measure_images
from trainer.evaluation.reliability import measure_reliability
from trainer.evaluation.slices import Slice, compare_slices, select_slices
from trainer.evaluation.summary import RegimeSummary, Summary, make_summary
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix
from trainer.models.frozen_prefix import find_frozen_prefix
from trainer.postprocessing import postprocessing as postprocessing_file
from trainer.postprocessing.postprocessing import (
    Postprocessing,
    fit_postprocessing,
)
from trainer.postprocessing.unknown import (
    UnknownScorer,
    choose_fit_images,
    count_fit_images,
    fit_scorer,
)
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
    scorers, validation, test = _evaluate_splits(runtime, config, classifiers)
    if not runtime.is_chief:
        return None
    regimes = _summarise_regimes(
        config, classes, history, validation=validation, test=test
    )
    balance = read_balance(config, classes)
    ranks = [rank(regimes[name], balance.chosen_by) for name in names]
    best = ranks.index(max(ranks))
    postprocessing = _fit_postprocessing(config, validation, best, scorers[best])
    calibrated_logits = test.logits[:, best] / postprocessing.temperature
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
        confidence_curve=measure_confidence_curve(
            metrics.softmax(calibrated_logits), test.labels
        ),
        learning_curve=run_dir.read_learning_curve(model_dir),
        search=run_config.read_search(model_dir),
        config=dataclasses.asdict(config),
    )
    outcome.print_outcome(summary, precision=runtime.precision)
    report.write_report(
        model_dir,
        summary=summary,
        history=history,
        classifier=classifiers[best],
        train_records=prepared_data.read_records(config.data_dir, "train"),
        test=report.Evaluated(
            records=records,
            logits=calibrated_logits,
            scores=test.scores[:, best],
            labels=test.labels,
        ),
    )
    postprocessing_file.write(model_dir / postprocessing_file.FILE, postprocessing)
    files.write_json(model_dir / run_dir.SUMMARY_FILE, summary)
    return summary


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """What M classifiers give for a split of N images, in stored order.

    logits: float32 [N, M, K]. scores: float32 [N, M], unknown scores.
    heat_centres: float32 [N, M, 2]; see saliency.find_centre. labels: int32 [N].
    """

    logits: np.ndarray
    scores: np.ndarray
    heat_centres: np.ndarray
    labels: np.ndarray


def _evaluate_splits(
    runtime: Runtime, config: TrainConfig, classifiers: Sequence[Classifier]
) -> tuple[list[UnknownScorer], _Outputs, _Outputs]:
    """Returns the scorer of each classifier, and what all give for both splits.

    The splits are validation and test.
    """
    prefixes = _find_common_prefixes(config, classifiers)
    scorers = _fit_scorers(runtime, config, classifiers, prefixes)
    with runtime.strategy.scope():
        step = evaluate.make_joint_eval_step(runtime, classifiers, prefixes, scorers)
    validation, test = (
        _evaluate(runtime, config, step, split) for split in ("validation", "test")
    )
    return scorers, validation, test


def _fit_scorers(
    runtime: Runtime,
    config: TrainConfig,
    classifiers: Sequence[Classifier],
    prefixes: Sequence[FrozenPrefix | None],
) -> list[UnknownScorer]:
    """Fits the unknown score of each classifier to some training images."""
    records = prepared_data.read_records(config.data_dir, "train", cached=False)
    labels = prepared_data.read_labels(records)
    positions = choose_fit_images(labels, count_fit_images(int(labels.max()) + 1))
    with runtime.strategy.scope():
        step = evaluate.make_embedding_step(runtime, classifiers, prefixes)
    embeddings, logits, _ = evaluate.evaluate(
        runtime,
        step,
        prepared_data.select(records, positions),
        image_size=config.image_size,
        batch_size=config.batch_size,
    )
    return [fit_scorer(embeddings[:, i], logits[:, i]) for i in range(len(classifiers))]


def _evaluate(
    runtime: Runtime, config: TrainConfig, eval_step: Callable, split: str
) -> _Outputs:
    return _Outputs(
        *evaluate.evaluate(
            runtime,
            eval_step,
            prepared_data.read_records(config.data_dir, split),
            image_size=config.image_size,
            batch_size=config.batch_size,
        )
    )


def _fit_postprocessing(
    config: TrainConfig, validation: _Outputs, index: int, scorer: UnknownScorer
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
    test: _Outputs,
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
    validation: _Outputs,
    test: _Outputs,
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


def _find_common_prefixes(
    config: TrainConfig, classifiers: Sequence[Classifier]
) -> list[FrozenPrefix | None]:
    """Finds the part of each classifier that no regime trained.

    It is the same in all classifiers, so one of them can compute it for all. None of
    them has one if no regime trained the backbone: the prefix would then be pooled, and
    where the classifier looks could not be seen.
    """
    backbone = classifiers[0].backbone
    fewest_frozen = min(
        freezing.resolve_freeze(backbone, regime.frozen)
        for regime in make_regimes(config)
    )
    for classifier in classifiers:
        freezing.freeze(classifier.backbone, fewest_frozen)
    if not backbone.trainable_variables:
        return [None] * len(classifiers)
    return [find_frozen_prefix(classifier) for classifier in classifiers]
