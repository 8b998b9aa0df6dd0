"""train(): the whole job, from a source or prepared data to the run directory."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil

import keras
import tensorflow as tf

from pipeline import prepare
from pipeline.loading import data_service, prepared_data
from pipeline.loading.dataset import make_eval_dataset
from pipeline.loading.prepared_data import DataInfo
from pipeline.sources.listing import check_source
from pipeline.system import files
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.preemption import StopSignal
from trainer.distribution.runtime import Runtime, set_up_runtime
from trainer.features.plan import FEATURES_DIR
from trainer.final_evaluation import evaluate_run
from trainer.head_search.search import search_head
from trainer.models import backbones, freezing
from trainer.models.classifier import Classifier, build_classifier
from trainer.training import checkpoints, progress, run_dir
from trainer.training.checkpoints import Checkpoint
from trainer.training.regimes import train_regimes

_PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy")

# How TensorFlow says that it no longer hears another worker.
_WORKER_LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def train(config: TrainConfig, stop_signal: StopSignal | None = None) -> dict:
    """Prepares the data if need be, runs the regimes and evaluates the best weights.

    Writes the run directory config.model_dir; of several workers the chief alone
    does, and all read it. A run that lies there unfinished is continued, a finished one
    left alone. After a mistake in the config, the data or the weights, the directory
    is left as it was found, but for the data if they are prepared by then.

    Returns:
      What stands in summary.json; nothing for a worker that is not the chief.

    Raises:
      ValueError: a setting, the data or the weights cannot be used, or do not belong to
        the run that lies there.
      ConnectionError: another worker is gone.
      FloatingPointError: the loss is no longer finite.
      preemption.Stopped: asked to, through the runtime's stop signal; the run can be continued.
    """
    runtime = set_up_runtime(
        strategy=config.strategy,
        precision=config.precision,
        virtual_devices=config.virtual_devices,
        batch_size=config.batch_size,
        seed=config.seed,
        xla=config.xla,
        deterministic=config.deterministic,
        stop_signal=stop_signal,
    )
    model_dir = pathlib.Path(config.model_dir)
    if config.data_dir is None:
        config = dataclasses.replace(config, data_dir=str(model_dir / "data"))
    if stop_signal is not None and collectives.has_several_workers(runtime):
        preemption.install_handlers(runtime.stop_signal)
    continues = (model_dir / run_dir.CONFIG_FILE).is_file()
    existed = model_dir.is_dir()
    if runtime.is_chief:
        if continues:
            run_dir.check_same_run(model_dir, config, runtime)
            if os.path.exists(config.data_dir):
                run_dir.check_same_data(model_dir, run_dir.data_fingerprint(config))
        else:
            run_dir.check_empty(model_dir, config)
    for flag in ("model_dir", "export_dir", "cache_dir"):
        directory = getattr(config, flag)
        if directory is not None and (runtime.is_chief or flag == "cache_dir"):
            files.check_writable(pathlib.Path(directory), flag)
    owner = (
        run_dir.lock_run_dir(model_dir)
        if runtime.is_chief
        else contextlib.nullcontext()
    )
    with owner:
        return _train_or_tidy(runtime, config, model_dir, continues, existed)


def _train_or_tidy(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    continues: bool,
    existed: bool,
) -> dict:
    try:
        if not collectives.has_several_workers(runtime):
            return _train(runtime, config, model_dir)
        # One that just ended would leave the others waiting: they end together.
        with preemption.defer(runtime.stop_signal):
            return _train(runtime, config, model_dir)
    except ValueError:
        begun = continues or checkpoints.list_checkpoints(model_dir)
        if runtime.is_chief and not begun:
            run_dir.remove_partial_run(model_dir, existed)
        raise
    except _WORKER_LOST_ERRORS as error:
        if not collectives.has_several_workers(runtime):
            raise
        newest = checkpoints.list_checkpoints(model_dir)[:1]
        raise ConnectionError(
            "Another worker is gone, and without it no step can be taken. Start all "
            "workers again with the same command: the run continues from "
            f"{newest[0] if newest else 'the beginning'}. TensorFlow says: "
            f"{error.message.strip().splitlines()[-1][:200]}"
        ) from error


def _train(runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path) -> dict:
    summary_path = model_dir / run_dir.SUMMARY_FILE
    if collectives.broadcast_from_chief(runtime, summary_path.is_file()):
        print(f"The run in {model_dir} is finished.")
        return json.loads(summary_path.read_text()) if runtime.is_chief else {}
    # Whatever can be wrong is found before the preparation, which can take hours.
    if config.source is None:
        prepared_data.read_info(config.data_dir)
    elif not os.path.exists(config.data_dir):
        check_source(config.source)
    if config.data_service is not None:
        data_service.check_data_service(config.data_service)
    checkpoint = _choose_checkpoint(runtime, model_dir)
    with runtime.strategy.scope():
        backbone = backbones.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        weights = "the checkpoint"
        if checkpoint is None:
            weights = backbones.load_backbone_weights(
                backbone,
                config.backbone,
                config.backbone_args,
                config.weights,
                random_if_offline=config.source == "sample",
            )
    rows = make_regimes(config)
    for regime in rows:
        freezing.resolve_freeze(backbone, regime.frozen)
    if config.source is not None:
        _prepare(runtime, config, model_dir)
    info = prepared_data.read_info(config.data_dir)
    if runtime.is_chief and not (model_dir / run_dir.CONFIG_FILE).is_file():
        model_dir.mkdir(parents=True, exist_ok=True)
        run_dir.write_config(
            model_dir,
            config,
            runtime,
            data=run_dir.data_fingerprint(config),
            weights_from=weights,
            python=platform.python_version(),
            versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        )
    classifier = _build(runtime, config, backbone, info)
    if weights == "random":
        _calibrate(classifier, config)
    progress.print_plan(runtime, config, info, classifier, weights=weights)
    if config.sweep != "none" or config.folds:
        found = _search(runtime, config, model_dir, classifier, info)
        config = dataclasses.replace(config, **found.get("chosen", {}))
        rows = make_regimes(config)
        classifier = _build(runtime, config, backbone, info)
    if checkpoint is not None:
        regime = rows[checkpoint.position.regime]
        progress.print_continuation(checkpoint.position, regime)
    position = train_regimes(
        runtime,
        config,
        model_dir,
        classifier,
        rows=rows,
        checkpoint=checkpoint,
    )
    summary = evaluate_run(runtime, config, model_dir, info.classes, position.history)
    # Of use to this run alone; what is to be shared lies in --cache_dir.
    if runtime.is_chief:
        shutil.rmtree(model_dir / FEATURES_DIR, ignore_errors=True)
    return summary


def _build(
    runtime: Runtime, config: TrainConfig, backbone: keras.Model, info: DataInfo
) -> Classifier:
    with runtime.strategy.scope():
        return build_classifier(
            backbone,
            config.backbone,
            num_classes=len(info.classes),
            pooling=config.pooling,
            head_units=config.head_units,
            dropout=config.dropout,
        )


def _search(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    info: DataInfo,
) -> dict:
    """What search_head() finds, or found when the run began."""
    found = run_dir.read_search(model_dir) if runtime.is_chief else None
    if not collectives.broadcast_from_chief(runtime, found is not None):
        with preemption.defer(runtime.stop_signal):
            found = search_head(
                runtime, config, model_dir, classifier, len(info.classes)
            )
        if runtime.is_chief:
            run_dir.record_search(model_dir, found)
        collectives.barrier(runtime)
    return run_dir.read_search(model_dir)


def _choose_checkpoint(runtime: Runtime, model_dir: pathlib.Path) -> Checkpoint | None:
    """The newest whole checkpoint, as the chief sees it."""
    checkpoint = checkpoints.load_newest(model_dir) if runtime.is_chief else None
    steps = checkpoint.position.total_steps if checkpoint is not None else -1
    chosen = collectives.broadcast_from_chief(runtime, steps)
    if chosen == -1 or runtime.is_chief:
        return checkpoint
    return checkpoints.load(checkpoints.checkpoint_path(model_dir, chosen))


def _prepare(runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path) -> None:
    if collectives.has_several_workers(runtime):
        raise ValueError(
            "Several workers need data that is prepared already: run pipeline.main "
            f"first and give --data_dir. Received: --source={config.source}"
        )
    if not os.path.exists(config.data_dir):
        prepare.prepare(config.source, config.data_dir, seed=config.seed)
        print()


def _calibrate(classifier: Classifier, config: TrainConfig) -> None:
    # One global batch, read the same way by every worker, so that all agree.
    batches = make_eval_dataset(
        prepared_data.read_records(config.data_dir, "train"),
        image_size=config.image_size,
        batch_size=config.batch_size,
    )
    freezing.calibrate_batch_norm(classifier, next(iter(batches))["image"])
