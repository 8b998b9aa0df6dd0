"""Runs the whole job: prepares the data if needed, trains the regimes, evaluates."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import time
from typing import Any

import tensorflow as tf

from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import DataInfo
from pipeline.system import files
from trainer import run_setup
from trainer.config.class_balance import ClassBalance, read_balance
from trainer.config.regimes import make_regimes
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.preemption import StopSignal
from trainer.distribution.runtime import Runtime, exact_float32, set_up_runtime
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.summary import Summary
from trainer.features.plan import FEATURES_DIR
from trainer.final_evaluation import evaluate_run
from trainer.head_search.logistic_head import start_from_logistic_head
from trainer.head_search.search import search_head
from trainer.label_check.check import check_requirements, check_run
from trainer.models import freezing
from trainer.models.classifier import Classifier
from trainer.postprocessing import postprocessing
from trainer.training import checkpoints, progress, run_config, run_dir
from trainer.training.budget import Clock
from trainer.training.regimes import train_regimes

# The errors with which TensorFlow reports that another worker does not answer.
_WORKER_LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def train(
    config: TrainConfig,
    stop_signal: StopSignal | None = None,
    *,
    started_at: float | None = None,
) -> Summary | None:
    """Prepares the data if needed, trains the regimes and evaluates the best weights.

    Writes the run directory config.model_dir. With several workers only the chief
    writes it, and all workers read it. An unfinished run in that directory is
    continued; a finished run is left as it is. After a mistake in the flags, the data
    or the weights, the directory is as it was before, except for prepared data.

    Args:
      stop_signal: set by the signal handlers of the process; see preemption.py.
      started_at: when the command started, on the clock time.monotonic(), from which
        --minutes count; None is now.

    Returns:
      The content of summary.json; None on a worker that is not the chief.

    Raises:
      ValueError: a flag, the data or the weights cannot be used, or do not belong to
        the run in the directory.
      ConnectionError: another worker is gone.
      FloatingPointError: the loss is no longer finite.
      preemption.Stopped: the process was asked to stop; the run can be continued.
    """
    started_at = time.monotonic() if started_at is None else started_at
    check_requirements(config)  # The label check comes last, and a mistake first.
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
            summary = _train(runtime, config, model_dir, started_at)
            check_run(runtime, config, model_dir)
            # Only this run can use these features; shared ones are in --cache_dir.
            if runtime.is_chief:
                shutil.rmtree(model_dir / FEATURES_DIR, ignore_errors=True)
            return summary
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
    runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path, started_at: float
) -> Summary | None:
    summary_path = model_dir / run_dir.SUMMARY_FILE
    # Runs of older versions have no postprocessing.npz: they are evaluated again.
    is_finished = (model_dir / postprocessing.FILE).is_file() and summary_path.is_file()
    if collectives.broadcast_from_chief(runtime, is_finished):
        print(f"The run in {model_dir} is finished.")
        return json.loads(summary_path.read_text()) if runtime.is_chief else None
    # Mistakes are found before the preparation, which can take hours.
    run_setup.check_data_flags(config)
    checkpoint = run_setup.load_checkpoint(runtime, model_dir)
    backbone, weights_from = run_setup.make_backbone(runtime, config, checkpoint)
    for regime in make_regimes(config):
        freezing.resolve_freeze(backbone, regime.frozen)
    start_seconds = time.monotonic() - started_at
    run_setup.prepare_data(runtime, config)
    info = prepared_data.read_info(config.data_dir)
    if runtime.is_chief and not (model_dir / run_config.CONFIG_FILE).is_file():
        run_config.write_config(model_dir, config, runtime, weights_from)
    classifier = run_setup.make_classifier(runtime, config, backbone, info)
    config = run_setup.choose_views(config, classifier, info)
    balance = read_balance(config, info.classes)
    if weights_from == "random":
        run_setup.calibrate(classifier, config)
    progress.print_plan(
        runtime, config, info, classifier, weights_from=weights_from, balance=balance
    )
    if config.sweep != "none" or config.head_folds:
        search = _search_head(
            runtime, config, model_dir, classifier, info, balance=balance
        )
        config = dataclasses.replace(config, **search.get("chosen", {}))
        classifier = run_setup.make_classifier(runtime, config, backbone, info)
    history: tuple[EpochMetrics, ...] = ()
    if config.head_start == "logistic" and checkpoint is None:
        num_classes = len(info.classes)
        line = start_from_logistic_head(
            runtime, config, model_dir, classifier, num_classes, balance=balance
        )
        history = (line,)
    regimes = run_setup.plan_regimes(config, info)
    if checkpoint is not None:
        progress.print_continuation(checkpoint.position, regimes)
    position = train_regimes(
        runtime,
        config,
        model_dir,
        classifier,
        regimes=regimes,
        balance=balance,
        checkpoint=checkpoint,
        history=history,
        clock=_make_clock(config, info, started_at, start_seconds),
    )
    with exact_float32():
        return evaluate_run(runtime, config, model_dir, info.classes, position.history)


def _make_clock(
    config: TrainConfig, info: DataInfo, started_at: float, start_seconds: float
) -> Clock | None:
    """Returns what --minutes need to know; None without that flag."""
    if config.minutes is None:
        return None
    num_final_images = info.counts["validation"] + info.counts["test"]
    return Clock(started_at, start_seconds, num_final_images)


def _search_head(
    runtime: Runtime,
    config: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    info: DataInfo,
    *,
    balance: ClassBalance,
) -> dict[str, Any]:
    """Searches a head, or returns what the search found when the run began."""
    search = run_config.read_search(model_dir) if runtime.is_chief else None
    if not collectives.broadcast_from_chief(runtime, search is not None):
        with preemption.defer(runtime.stop_signal):
            search = search_head(
                runtime,
                config,
                model_dir,
                classifier,
                len(info.classes),
                balance=balance,
            )
        if runtime.is_chief:
            run_config.record_search(model_dir, search)
        collectives.barrier(runtime)
    return run_config.read_search(model_dir) or {}
