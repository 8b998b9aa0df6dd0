"""conclude(): what the best weights of a run are worth, for people and programs."""

import dataclasses
import pathlib
from collections.abc import Sequence

from pipeline import dataset, files
from trainer import (
    checkpoints,
    evaluation,
    frontier,
    metrics,
    model,
    progress,
    report,
)
from trainer.config import TrainConfig, make_regimes
from trainer.interrupt import Requests
from trainer.model import Classifier, Frontier
from trainer.runtime import Runtime


def conclude(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classes: tuple[str, ...],
    history: Sequence[dict],
    requests: Requests,
) -> dict:
    """Evaluates each regime's best weights, in float32; the first look at the test.

    Args:
      history: the lines of metrics.jsonl.

    Returns:
      What stands in summary.json, which it writes with the report; nothing for a worker
      that is not the chief.
    """
    sizes = {"image_size": settings.image_size, "batch_size": settings.batch_size}
    records = {
        split: dataset.read_records(settings.data_dir, split)
        for split in ("validation", "test")
    }
    names = list(dict.fromkeys(line["regime"] for line in history))
    with run.strategy.scope():
        classifiers = [
            checkpoints.restore(settings, classes, model_dir, name) for name in names
        ]
        eval_step = evaluation.make_joint_eval_step(
            run, classifiers, _find_frontiers(settings, classifiers)
        )
    outputs = {
        split: evaluation.evaluate(
            run, eval_step, records[split], requests=requests, **sizes
        )
        for split in records
    }
    summary = {"classes": list(classes), "regimes": names}
    for index, name in enumerate(names):
        figures = {}
        for split, key in (("validation", "val"), ("test", "test")):
            logits, labels = outputs[split]
            described = metrics.describe(logits[:, index], labels, classes)
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
        "test": metrics.describe(logits, labels, classes),
        "search": checkpoints.read_search(model_dir) if run.is_chief else None,
        "export": None,
        "config": dataclasses.asdict(settings),
    }
    if not run.is_chief:
        return {}
    progress.print_outcome(summary, precision=run.precision)
    report.write_report(
        model_dir,
        summary=summary,
        history=history,
        classifier=classifiers[names.index(best)],
        records=records["test"],
        image_size=settings.image_size,
        logits=logits,
        labels=labels,
    )
    files.write_json(model_dir / checkpoints.SUMMARY_FILE, summary)
    return summary


def _find_frontiers(
    settings: TrainConfig, classifiers: Sequence[Classifier]
) -> list[Frontier | None]:
    """Where the regimes begin to differ: what no regime trained is the same in all."""
    backbone = classifiers[0].backbone
    frozen = min(
        model.resolve_freeze(backbone, regime.frozen)
        for regime in make_regimes(settings)
    )
    for classifier in classifiers:
        model.freeze(classifier.backbone, frozen)
    return [frontier.find_frontier(classifier) for classifier in classifiers]


def _rank(figures: dict) -> tuple[float, float]:
    """As the regimes rank their epochs."""
    return figures["val_accuracy"], -figures["val_loss"]
