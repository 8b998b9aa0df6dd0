"""conclude(): what the best weights of a run are worth, for people and programs."""

import dataclasses
import pathlib
from collections.abc import Sequence

from pipeline.loading import prepared_data
from pipeline.system import files
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate, metrics, report
from trainer.models import freezing
from trainer.models.classifier import Classifier, FrozenPrefix
from trainer.models.frozen_prefix import find_frozen_prefix
from trainer.training import progress, run_dir


def evaluate_run(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classes: tuple[str, ...],
    history: Sequence[dict],
) -> dict:
    """Evaluates each regime's best weights, in float32; the first look at the test.

    Args:
      history: the lines of metrics.jsonl.

    Returns:
      What stands in summary.json, which it writes with the report; nothing for a worker
      that is not the chief.
    """
    sizes = {"image_size": config.image_size, "batch_size": config.batch_size}
    records = {
        split: prepared_data.read_records(config.data_dir, split)
        for split in ("validation", "test")
    }
    names = list(dict.fromkeys(line["regime"] for line in history))
    with runtime.strategy.scope():
        classifiers = [
            run_dir.restore_classifier(config, classes, model_dir, name)
            for name in names
        ]
        eval_step = evaluate.make_joint_eval_step(
            runtime, classifiers, _find_frontiers(config, classifiers)
        )
    outputs = {
        split: evaluate.evaluate(runtime, eval_step, records[split], **sizes)
        for split in records
    }
    summary = {"classes": list(classes), "regimes": names}
    for index, name in enumerate(names):
        figures = {}
        for split, key in (("validation", "val"), ("test", "test")):
            logits, labels = outputs[split]
            described = metrics.compute_metrics(logits[:, index], labels, classes)
            for figure in ("accuracy", "loss", "count", "ci95"):
                figures[f"{key}_{figure}"] = described[figure]
        epochs = [line for line in history if line["regime"] == name]
        figures["epochs"] = len(epochs)
        figures["best_epoch"] = max(
            (line["epoch"] for line in epochs if line["best"]), default=0
        )
        figures["seconds"] = sum(e["seconds"] + e["val_seconds"] for e in epochs)
        summary[name] = figures
    best = max(names, key=lambda name: _rank(summary[name]))
    logits, labels = outputs["test"]
    logits = logits[:, names.index(best)]
    summary |= {
        "best_regime": best,
        "test": metrics.compute_metrics(logits, labels, classes),
        "search": run_dir.read_search(model_dir) if runtime.is_chief else None,
        "export": None,
        "config": dataclasses.asdict(config),
    }
    if not runtime.is_chief:
        return {}
    progress.print_outcome(summary, precision=runtime.precision)
    report.write_report(
        model_dir,
        summary=summary,
        history=history,
        classifier=classifiers[names.index(best)],
        records=records["test"],
        image_size=config.image_size,
        logits=logits,
        labels=labels,
    )
    files.write_json(model_dir / run_dir.SUMMARY_FILE, summary)
    return summary


def _find_frontiers(
    config: TrainConfig, classifiers: Sequence[Classifier]
) -> list[FrozenPrefix | None]:
    """Where the regimes begin to differ: what no regime trained is the same in all."""
    backbone = classifiers[0].backbone
    frozen = min(
        freezing.resolve_freeze(backbone, regime.frozen)
        for regime in make_regimes(config)
    )
    for classifier in classifiers:
        freezing.freeze(classifier.backbone, frozen)
    return [find_frozen_prefix(classifier) for classifier in classifiers]


def _rank(figures: dict) -> tuple[float, float]:
    """As the regimes rank their epochs."""
    return figures["val_accuracy"], -figures["val_loss"]
