"""Runs the whole job: prepares the data if needed, trains the regimes, evaluates."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import keras
import tensorflow as tf

from pipeline import prepare
from pipeline.loading import data_service, prepared_data
from pipeline.loading.dataset import make_eval_dataset
from pipeline.loading.order import num_batches
from pipeline.loading.prepared_data import DataInfo
from pipeline.sources.listing import check_source
from pipeline.splits.assign import SplitPlan
from pipeline.system import files
from trainer.config.regimes import extend_epochs, make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.preemption import StopSignal
from trainer.distribution.runtime import Runtime, set_up_runtime
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.summary import Summary
from trainer.features.plan import FEATURES_DIR, plan_inputs, resolve_views
from trainer.final_evaluation import evaluate_run
from trainer.head_search.logistic_head import start_from_logistic_head
from trainer.head_search.search import search_head
from trainer.models import backbones, freezing
from trainer.models.classifier import Classifier, build_classifier
from trainer.postprocessing import postprocessing
from trainer.training import checkpoints, progress, run_config, run_dir
from trainer.training.checkpoints import Checkpoint
from trainer.training.regimes import train_regimes

# The errors with which TensorFlow reports that another worker does not answer.
_WORKER_LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def train(config: TrainConfig, stop_signal: StopSignal | None = None) -> Summary | None:
    """Prepares the data if needed, trains the regimes and evaluates the best weights.

    Writes the run directory config.model_dir. With several workers only the chief
    writes it, and all workers read it. An unfinished run in that directory is
    continued; a finished run is left as it is. After a mistake in the flags, the data
    or the weights, the directory is as it was before, except for prepared data.

    Args:
      stop_signal: set by the signal handlers of the process; see preemption.py.

    Returns:
      The content of summary.json; None on a worker that is not the chief.

    Raises:
      ValueError: a flag, the data or the weights cannot be used, or do not belong to
        the run in the directory.
      ConnectionError: another worker is gone.
      FloatingPointError: the loss is no longer finite.
      preemption.Stopped: the process was asked to stop; the run can be continued.
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
    if stop_signal is not None and collectives.has_several_workers(runtime):
        preemption.install_handlers(stop_signal)
    model_dir = pathlib.Path(config.model_dir)
    existed = model_dir.is_dir()
    is_resumed = (model_dir / run_config.CONFIG_FILE).is_file()
    if runtime.is_chief:
        _check_run_dir(runtime, config, model_dir, is_resumed=is_resumed)
    if config.cache_dir is not None:
        files.check_writable(pathlib.Path(config.cache_dir), "cache_dir")
    with contextlib.ExitStack() as stack:
        if runtime.is_chief:
            stack.enter_context(run_dir.lock_run_dir(model_dir))
        if collectives.has_several_workers(runtime):
            # The workers have to stop together: one that ends alone would leave the
            # others waiting for it.
            stack.enter_context(preemption.defer(runtime.stop_signal))
        try:
            return _train(runtime, config, model_dir)
        except ValueError:
            has_begun = is_resumed or checkpoints.list_checkpoints(model_dir)
            if runtime.is_chief and not has_begun:
                run_dir.remove_failed_run(model_dir, remove_directory=not existed)
            raise
        except _WORKER_LOST_ERRORS as error:
            if not collectives.has_several_workers(runtime):
                raise
            raise _explain_lost_worker(error, model_dir) from error


def _check_run_dir(
    runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path, *, is_resumed: bool
) -> None:
    if is_resumed:
        run_config.check_same_run(model_dir, config, runtime)
        if os.path.exists(config.data_dir):
            data = run_config.fingerprint_data(config.data_dir)
            run_config.check_same_data(model_dir, data)
    else:
        run_dir.check_unused(model_dir, config)
    files.check_writable(model_dir, "model_dir")
    files.check_writable(pathlib.Path(config.export_dir), "export_dir")


def _explain_lost_worker(
    error: tf.errors.OpError, model_dir: pathlib.Path
) -> ConnectionError:
    newest = checkpoints.list_checkpoints(model_dir)[:1]
    return ConnectionError(
        "Another worker is gone, and no step can be taken without it. Start all "
        "workers again with the same command: the run continues from "
        f"{newest[0] if newest else 'the beginning'}. TensorFlow reports: "
        f"{error.message.strip().splitlines()[-1][:200]}"
    )


def _train(
    runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path
) -> Summary | None:
    summary_path = model_dir / run_dir.SUMMARY_FILE
    # Runs of older versions have no postprocessing.npz: they are evaluated again.
    is_finished = (model_dir / postprocessing.FILE).is_file() and summary_path.is_file()
    if collectives.broadcast_from_chief(runtime, is_finished):
        print(f"The run in {model_dir} is finished.")
        return json.loads(summary_path.read_text()) if runtime.is_chief else None
    # Mistakes are found before the preparation, which can take hours.
    _check_data_flags(config)
    checkpoint = _load_checkpoint(runtime, model_dir)
    backbone, weights_from = _make_backbone(runtime, config, checkpoint)
    for regime in make_regimes(config):
        freezing.resolve_freeze(backbone, regime.frozen)
    _prepare_data(runtime, config)
    info = prepared_data.read_info(config.data_dir)
    if runtime.is_chief and not (model_dir / run_config.CONFIG_FILE).is_file():
        run_config.write_config(model_dir, config, runtime, weights_from)
    classifier = _make_classifier(runtime, config, backbone, info)
    config = _resolve_views(config, classifier, info)
    if weights_from == "random":
        _calibrate(classifier, config)
    progress.print_plan(runtime, config, info, classifier, weights_from=weights_from)
    if weights_from == "embedded" and config.source != "sample":
        print(
            "WARNING: the embedded weights were trained on drawings and know no "
            "photographs: this run shows all steps, but its classifier will not be "
            "accurate. --weights=imagenet is for photographs.",
            flush=True,
        )
    if config.sweep != "none" or config.head_folds:
        search = _search_head(runtime, config, model_dir, classifier, info)
        config = dataclasses.replace(config, **search.get("chosen", {}))
        classifier = _make_classifier(runtime, config, backbone, info)
    history: tuple[EpochMetrics, ...] = ()
    if config.head_start == "logistic" and checkpoint is None:
        line = start_from_logistic_head(
            runtime, config, model_dir, classifier, len(info.classes)
        )
        history = (line,)
    epoch_steps = num_batches(info.counts["train"], config.batch_size)
    regimes = extend_epochs(make_regimes(config), epoch_steps)
    if checkpoint is not None:
        regime = regimes[checkpoint.position.regime]
        progress.print_continuation(checkpoint.position, regime)
    position = train_regimes(
        runtime,
        config,
        model_dir,
        classifier,
        regimes=regimes,
        checkpoint=checkpoint,
        history=history,
    )
    summary = evaluate_run(runtime, config, model_dir, info.classes, position.history)
    # Only this run can use these features; shared ones are in --cache_dir.
    if runtime.is_chief:
        shutil.rmtree(model_dir / FEATURES_DIR, ignore_errors=True)
    return summary


def _check_data_flags(config: TrainConfig) -> None:
    if config.source is None:
        prepared_data.read_info(config.data_dir)
    elif not os.path.exists(config.data_dir):
        check_source(config.source)
    if config.data_service is not None:
        data_service.check_data_service(config.data_service)


def _load_checkpoint(runtime: Runtime, model_dir: pathlib.Path) -> Checkpoint | None:
    """Loads on every worker the checkpoint that the chief finds newest and intact."""
    checkpoint = checkpoints.load_newest(model_dir) if runtime.is_chief else None
    steps = checkpoint.position.total_steps if checkpoint is not None else -1
    chief_steps = collectives.broadcast_from_chief(runtime, steps)
    if chief_steps == -1 or runtime.is_chief:
        return checkpoint
    return checkpoints.load(checkpoints.checkpoint_path(model_dir, chief_steps))


def _make_backbone(
    runtime: Runtime, config: TrainConfig, checkpoint: Checkpoint | None
) -> tuple[keras.Model, str]:
    """Returns the backbone and where its weights come from."""
    with runtime.strategy.scope():
        backbone = backbones.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        if checkpoint is not None:
            return backbone, "the checkpoint"
        weights_from = backbones.load_backbone_weights(
            backbone,
            config.backbone,
            config.backbone_args,
            config.weights,
        )
    return backbone, weights_from


def _prepare_data(runtime: Runtime, config: TrainConfig) -> None:
    if config.source is None:
        return
    if collectives.has_several_workers(runtime):
        raise ValueError(
            "Several workers need data that are prepared already: run pipeline.main "
            f"first and give --data_dir. Received: --source={config.source}"
        )
    if not os.path.exists(config.data_dir):
        prepare.prepare(
            config.source, config.data_dir, plan=SplitPlan(seed=config.seed)
        )
        print()


def _make_classifier(
    runtime: Runtime, config: TrainConfig, backbone: keras.Model, info: DataInfo
) -> Classifier:
    with runtime.strategy.scope():
        return build_classifier(
            backbone,
            config.backbone,
            num_classes=len(info.classes),
            head=config.head,
        )


def _resolve_views(
    config: TrainConfig, classifier: Classifier, info: DataInfo
) -> TrainConfig:
    """Returns the config with a number of views."""
    if config.cached_views is not None:
        return config
    inputs = plan_inputs(classifier, make_regimes(config))
    freezing.freeze(classifier.backbone, 0)
    num_views = resolve_views(config, inputs, num_images=info.counts["train"])
    return dataclasses.replace(config, cached_views=num_views)


def _calibrate(classifier: Classifier, config: TrainConfig) -> None:
    # One global batch, which every worker reads as a whole, so that all agree.
    batches = make_eval_dataset(
        prepared_data.read_records(config.data_dir, "train"),
        image_size=config.image_size,
        batch_size=config.batch_size,
    )
    freezing.calibrate_batch_norm(classifier, next(iter(batches))["image"])


def _search_head(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    info: DataInfo,
) -> dict[str, Any]:
    """Searches a head, or returns what the search found when the run began."""
    search = run_config.read_search(model_dir) if runtime.is_chief else None
    if not collectives.broadcast_from_chief(runtime, search is not None):
        with preemption.defer(runtime.stop_signal):
            search = search_head(
                runtime, config, model_dir, classifier, len(info.classes)
            )
        if runtime.is_chief:
            run_config.record_search(model_dir, search)
        collectives.barrier(runtime)
    return run_config.read_search(model_dir) or {}
