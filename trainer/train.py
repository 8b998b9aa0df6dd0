"""train(): the whole job, from a source or prepared data to the run directory."""

import dataclasses
import importlib.metadata
import json
import math
import pathlib
import platform
import shutil
import time

import tensorflow as tf

from pipeline import augment, dataset, files, prepare
from pipeline.dataset import Records
from trainer import checkpoints, loop, metrics, model, progress, report, runtime
from trainer.config import Regime, TrainConfig, make_regimes
from trainer.model import Classifier
from trainer.runtime import Runtime

_PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy")


def train(settings: TrainConfig) -> dict:
    """Prepares the data if need be, runs the regimes and evaluates the best weights.

    Writes the run directory settings.model_dir; of several workers the chief alone
    does. After a mistake in the settings, the data or the weights, the directory is
    left as it was found.

    Returns:
      What stands in summary.json; nothing for a worker that is not the chief.

    Raises:
      ValueError: a setting, the data or the weights cannot be used.
      FloatingPointError: the loss is no longer finite.
    """
    run = runtime.set_up(
        strategy=settings.strategy,
        precision=settings.precision,
        virtual_devices=settings.virtual_devices,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    model_dir = pathlib.Path(settings.model_dir)
    if not run.is_chief:
        return _train(run, settings, model_dir)
    existed = model_dir.exists()
    if existed and (not model_dir.is_dir() or any(model_dir.iterdir())):
        raise ValueError(
            "--model_dir must be new or empty, so that no run is overwritten. Received:"
            f" --model_dir={model_dir}"
        )
    try:
        return _train(run, settings, model_dir)
    except ValueError:
        # Once the config is written the training has begun, and nothing is removed.
        if not (model_dir / checkpoints.CONFIG_FILE).exists():
            shutil.rmtree(model_dir, ignore_errors=True)
            if existed:
                model_dir.mkdir()
        raise


def _train(run: Runtime, settings: TrainConfig, model_dir: pathlib.Path) -> dict:
    # Whatever can be wrong is found before the preparation, which can take hours.
    if settings.data_dir is not None:
        dataset.read_info(settings.data_dir)
    with run.strategy.scope():
        backbone = model.build_backbone(
            settings.backbone, settings.backbone_args, image_size=settings.image_size
        )
        weights = model.load_backbone_weights(
            backbone,
            settings.backbone,
            settings.backbone_args,
            settings.weights,
            random_if_offline=settings.source == "sample",
        )
    frozen_layers = len(backbone.layers)
    if "finetune" in settings.regimes:
        frozen_layers = model.resolve_freeze(
            backbone, settings.freeze_layers, settings.freeze_until
        )
    if settings.data_dir is None:
        settings = dataclasses.replace(
            settings, data_dir=_prepare(settings, model_dir, run)
        )
    info = dataset.read_info(settings.data_dir)
    with run.strategy.scope():
        classifier = model.build_classifier(
            backbone,
            settings.backbone,
            num_classes=len(info.classes),
            pooling=settings.pooling,
            head_units=settings.head_units,
            dropout=settings.dropout,
        )
    if weights == "random":
        _calibrate(classifier, settings)
    progress.print_plan(
        run, settings, info, classifier, weights=weights, frozen_layers=frozen_layers
    )
    model_dir.mkdir(parents=True, exist_ok=True)
    if run.is_chief:
        _write_config(model_dir, settings, run, weights=weights)
    history, seconds_of = _run_regimes(
        run, settings, model_dir, classifier, frozen_layers=frozen_layers
    )
    return _conclude(run, settings, model_dir, info.classes, history, seconds_of)


def _prepare(settings: TrainConfig, model_dir: pathlib.Path, run: Runtime) -> str:
    if settings.strategy == "multi_worker" or not run.is_chief:
        raise ValueError(
            "Several workers need data that is prepared already: run pipeline.main "
            f"first and give --data_dir. Received: --source={settings.source}"
        )
    data_dir = str(model_dir / "data")
    prepare.prepare(settings.source, data_dir, seed=settings.seed)
    print()
    return data_dir


def _calibrate(classifier: Classifier, settings: TrainConfig) -> None:
    # One global batch, read the same way by every worker, so that all agree.
    batches = dataset.make_eval_dataset(
        dataset.read_records(settings.data_dir, "train"),
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        per_replica_batch_size=settings.batch_size,
    )
    model.calibrate_batch_norm(classifier, next(iter(batches))["image"])


def _write_config(
    model_dir: pathlib.Path, settings: TrainConfig, run: Runtime, *, weights: str
) -> None:
    content = {
        "flags": dataclasses.asdict(settings),
        "weights_from": weights,
        "precision": run.precision,
        "replicas": run.strategy.num_replicas_in_sync,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    files.write_json(model_dir / checkpoints.CONFIG_FILE, content)


def _run_regimes(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    *,
    frozen_layers: int,
) -> tuple[list[dict], dict[str, float]]:
    """Runs each regime from the best weights of the one before.

    Returns:
      The lines of metrics.jsonl, and each regime's seconds.
    """
    train_records = dataset.read_records(settings.data_dir, "train")
    val_records = dataset.read_records(settings.data_dir, "validation")
    history, seconds_of, previous = [], {}, None
    for regime in make_regimes(settings):
        start = time.monotonic()
        all_layers = len(classifier.backbone.layers)
        model.freeze(
            classifier.backbone, all_layers if regime.freeze_backbone else frozen_layers
        )
        progress.print_regime(regime, classifier)
        best = (-1.0, 0.0)
        if previous is not None:
            # The weights it starts from are its first candidate, so that a regime
            # which gains nothing loses nothing either.
            checkpoints.load_best(classifier, model_dir, previous)
            best = max(_rank(line) for line in history)
            if run.is_chief:
                checkpoints.save_best(classifier, model_dir, regime.name)
        history += _run_regime(
            run,
            settings,
            model_dir,
            classifier,
            regime,
            train_records=train_records,
            val_records=val_records,
            best=best,
            epochs_before=len(history),
        )
        runtime.wait_for_all(run)
        seconds_of[regime.name] = time.monotonic() - start
        previous = regime.name
    return history, seconds_of


def _rank(line: dict) -> tuple[float, float]:
    """Orders weights by validation accuracy, equal ones by validation loss."""
    return line["val_accuracy"], -line["val_loss"]


def _run_regime(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    regime: Regime,
    *,
    train_records: Records,
    val_records: Records,
    best: tuple[float, float],
    epochs_before: int,
) -> list[dict]:
    steps = dataset.num_batches(train_records.count, settings.batch_size)
    optimizer = loop.make_optimizer(
        run,
        classifier,
        learning_rate=regime.learning_rate,
        schedule=settings.schedule,
        total_steps=steps * regime.epochs,
    )
    train_steps = loop.make_train_steps(
        run,
        classifier,
        optimizer,
        augment.build_augmenter(settings.augment),
        train_batch_norm=regime.train_batch_norm,
    )
    eval_step = loop.make_eval_step(run, classifier)
    sizes = {"image_size": settings.image_size, "batch_size": settings.batch_size}
    writer = tf.summary.create_file_writer(str(model_dir / "tensorboard" / regime.name))
    lines = []
    for epoch in range(1, regime.epochs + 1):
        result = progress.follow(
            loop.train_epoch(
                run,
                train_steps,
                train_records,
                epoch=epochs_before + epoch,
                seed=settings.seed,
                **sizes,
            ),
            label=f"{regime.name} {epoch}/{regime.epochs}",
        )
        _check_finite(result.loss, regime, epoch)
        logits, labels = loop.evaluate(run, eval_step, val_records, **sizes)
        val_accuracy, val_loss = metrics.accuracy_and_loss(logits, labels)
        line = {
            "regime": regime.name,
            "epoch": epoch,
            "step": (epochs_before + epoch) * steps,
            "train_loss": result.loss,
            "train_accuracy": result.accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": float(optimizer.learning_rate),
            "images_per_second": train_records.count / result.seconds,
            "seconds": result.seconds,
        }
        line["best"] = _rank(line) > best
        best = max(best, _rank(line))
        lines.append(line)
        progress.print_epoch(line, epochs=regime.epochs)
        if run.is_chief:
            _record(model_dir, writer, line)
            if line["best"]:
                checkpoints.save_best(classifier, model_dir, regime.name)
    return lines


def _check_finite(loss: float, regime: Regime, epoch: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"The loss became {loss} in epoch {epoch} of {regime.name}. Try a smaller "
            f"--{regime.name}_lr. Received: --{regime.name}_lr={regime.learning_rate:g}"
        )


def _record(model_dir: pathlib.Path, writer: tf.summary.SummaryWriter, line: dict):
    """Appends one epoch to metrics.jsonl and to the TensorBoard files."""
    with open(model_dir / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    with writer.as_default(step=line["step"]):
        for name, value in line.items():
            if isinstance(value, float):
                tf.summary.scalar(name, value)
    writer.flush()


def _conclude(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classes: tuple[str, ...],
    history: list[dict],
    seconds_of: dict[str, float],
) -> dict:
    """Evaluates each regime's best weights, in float32; the first look at the test."""
    sizes = {"image_size": settings.image_size, "batch_size": settings.batch_size}
    records = {
        split: dataset.read_records(settings.data_dir, split)
        for split in ("validation", "test")
    }
    summary = {"classes": list(classes), "regimes": list(settings.regimes)}
    outputs = {}
    for name in settings.regimes:
        with run.strategy.scope():
            classifier = checkpoints.restore(settings, classes, model_dir, name)
        eval_step = loop.make_eval_step(run, classifier)
        figures = {}
        for split, key in (("validation", "val"), ("test", "test")):
            logits, labels = loop.evaluate(run, eval_step, records[split], **sizes)
            outputs[name, split] = (logits, labels)
            described = metrics.describe(logits, labels, classes)
            for figure in ("accuracy", "loss", "count", "ci95"):
                figures[f"{key}_{figure}"] = described[figure]
        epochs = [line for line in history if line["regime"] == name]
        figures["epochs"] = len(epochs)
        figures["best_epoch"] = max(
            (line["epoch"] for line in epochs if line["best"]), default=0
        )
        figures["seconds"] = seconds_of[name]
        summary[name] = figures
    best = max(settings.regimes, key=lambda name: _rank(summary[name]))
    logits, labels = outputs[best, "test"]
    summary |= {
        "best_regime": best,
        "test": metrics.describe(logits, labels, classes),
        "export": None,
        "config": dataclasses.asdict(settings),
    }
    if not run.is_chief:
        return {}
    progress.print_outcome(summary)
    report.write_report(
        model_dir,
        summary=summary,
        history=history,
        classifier=checkpoints.restore(settings, classes, model_dir, best),
        records=records["test"],
        image_size=settings.image_size,
        logits=logits,
        labels=labels,
    )
    files.write_json(model_dir / checkpoints.SUMMARY_FILE, summary)
    return summary
