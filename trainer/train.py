"""train(): the whole job, from a source or prepared data to the run directory."""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator

import keras
import tensorflow as tf

from pipeline import dataset, files, prepare, sources
from pipeline.dataset import DataInfo
from trainer import (
    checkpoints,
    interrupt,
    model,
    progress,
    regimes,
    runtime,
    stages,
    sweep,
)
from trainer.checkpoints import Checkpoint
from trainer.conclude import conclude
from trainer.config import TrainConfig, make_regimes
from trainer.interrupt import Requests
from trainer.model import Classifier
from trainer.runtime import Runtime

_PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy")

# How TensorFlow says that it no longer hears another worker.
_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def train(settings: TrainConfig, requests: Requests | None = None) -> dict:
    """Prepares the data if need be, runs the regimes and evaluates the best weights.

    Writes the run directory settings.model_dir; of several workers the chief alone
    does, and all read it. A run that lies there unfinished is continued, a finished one
    left alone. After a mistake in the settings, the data or the weights, the directory
    is left as it was found, but for the data if they are prepared by then.

    Returns:
      What stands in summary.json; nothing for a worker that is not the chief.

    Raises:
      ValueError: a setting, the data or the weights cannot be used, or do not belong to
        the run that lies there.
      ConnectionError: another worker is gone.
      FloatingPointError: the loss is no longer finite.
      interrupt.Stopped: asked to, through `requests`; the run can be continued.
    """
    run = runtime.set_up(
        strategy=settings.strategy,
        precision=settings.precision,
        virtual_devices=settings.virtual_devices,
        batch_size=settings.batch_size,
        seed=settings.seed,
        xla=settings.xla,
        deterministic=settings.deterministic,
    )
    model_dir = pathlib.Path(settings.model_dir)
    if settings.data_dir is None:
        settings = dataclasses.replace(settings, data_dir=str(model_dir / "data"))
    if requests is None:
        requests = Requests()
    elif runtime.has_several_workers(run):
        interrupt.listen(requests)
    continues = (model_dir / checkpoints.CONFIG_FILE).is_file()
    existed = model_dir.is_dir()
    if run.is_chief:
        if continues:
            checkpoints.check_same_run(model_dir, settings, run)
            if os.path.exists(settings.data_dir):
                checkpoints.check_same_data(model_dir, _describe_data(settings))
        else:
            _check_empty(model_dir, settings)
    for flag in ("model_dir", "export_dir", "cache_dir"):
        directory = getattr(settings, flag)
        if directory is not None and (run.is_chief or flag == "cache_dir"):
            files.check_writable(pathlib.Path(directory), flag)
    owner = _own(model_dir) if run.is_chief else contextlib.nullcontext()
    with owner:
        return _train_or_tidy(run, settings, model_dir, requests, continues, existed)


@contextlib.contextmanager
def _own(model_dir: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from training into the same directory."""
    model_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(model_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                "Another process trains into this directory. Received: --model_dir="
                f"{model_dir}; wait for it, or name another."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def _train_or_tidy(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    requests: Requests,
    continues: bool,
    existed: bool,
) -> dict:
    try:
        if not runtime.has_several_workers(run):
            return _train(run, settings, model_dir, requests)
        # One that just ended would leave the others waiting: they end together.
        with interrupt.busy(requests):
            return _train(run, settings, model_dir, requests)
    except ValueError:
        begun = continues or checkpoints.list_checkpoints(model_dir)
        if run.is_chief and not begun:
            _tidy(model_dir, existed)
        raise
    except _LOST_WORKER as error:
        if not runtime.has_several_workers(run):
            raise
        newest = checkpoints.list_checkpoints(model_dir)[:1]
        raise ConnectionError(
            "Another worker is gone, and without it no step can be taken. Start all "
            "workers again with the same command: the run continues from "
            f"{newest[0] if newest else 'the beginning'}. TensorFlow says: "
            f"{error.message.strip().splitlines()[-1][:200]}"
        ) from error


def _tidy(model_dir: pathlib.Path, existed: bool) -> None:
    """Leaves what cost time and is right, the prepared data, for the next attempt."""
    for path in model_dir.iterdir():
        if path.is_dir() and path.name != "data":
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)
    if not existed:
        with contextlib.suppress(OSError):  # not empty
            model_dir.rmdir()


def _check_empty(model_dir: pathlib.Path, settings: TrainConfig) -> None:
    if not os.path.lexists(model_dir):
        return
    # What a run left that was killed in or after its preparation may be there.
    if not model_dir.is_dir() or any(
        not path.name.startswith(".data.tmp-")
        and not (path.name == "data" and _is_prepared_from(path, settings))
        for path in model_dir.iterdir()
    ):
        raise ValueError(
            "--model_dir must be new, empty or a run to continue. Received: "
            f"--model_dir={model_dir}, which holds something else."
        )


def _is_prepared_from(data_dir: pathlib.Path, settings: TrainConfig) -> bool:
    try:
        made_by = json.loads((data_dir / "audit.json").read_text())["settings"]
    except (OSError, ValueError, KeyError):
        return False
    return (made_by["source"], made_by["seed"]) == (settings.source, settings.seed)


def _train(
    run: Runtime, settings: TrainConfig, model_dir: pathlib.Path, requests: Requests
) -> dict:
    summary_path = model_dir / checkpoints.SUMMARY_FILE
    if runtime.take_from_chief(run, summary_path.is_file()):
        print(f"The run in {model_dir} is finished.")
        return json.loads(summary_path.read_text()) if run.is_chief else {}
    # Whatever can be wrong is found before the preparation, which can take hours.
    if settings.source is None:
        dataset.read_info(settings.data_dir)
    elif not os.path.exists(settings.data_dir):
        sources.check_source(settings.source)
    if settings.data_service is not None:
        dataset.check_data_service(settings.data_service)
    checkpoint = _choose_checkpoint(run, model_dir)
    with run.strategy.scope():
        backbone = model.build_backbone(
            settings.backbone, settings.backbone_args, image_size=settings.image_size
        )
        weights = "the checkpoint"
        if checkpoint is None:
            weights = model.load_backbone_weights(
                backbone,
                settings.backbone,
                settings.backbone_args,
                settings.weights,
                random_if_offline=settings.source == "sample",
            )
    rows = make_regimes(settings)
    for regime in rows:
        model.resolve_freeze(backbone, regime.frozen)
    if settings.source is not None:
        _prepare(run, settings, model_dir)
    info = dataset.read_info(settings.data_dir)
    if run.is_chief and not (model_dir / checkpoints.CONFIG_FILE).is_file():
        model_dir.mkdir(parents=True, exist_ok=True)
        checkpoints.write_config(
            model_dir,
            settings,
            run,
            data=_describe_data(settings),
            weights_from=weights,
            python=platform.python_version(),
            versions={name: importlib.metadata.version(name) for name in _PACKAGES},
        )
    classifier = _build(run, settings, backbone, info)
    if weights == "random":
        _calibrate(classifier, settings)
    progress.print_plan(run, settings, info, classifier, weights=weights)
    if settings.sweep != "none" or settings.folds:
        found = _search(run, settings, model_dir, classifier, info, requests)
        settings = dataclasses.replace(settings, **found.get("chosen", {}))
        rows = make_regimes(settings)
        classifier = _build(run, settings, backbone, info)
    if checkpoint is not None:
        regime = rows[checkpoint.position.regime]
        progress.print_continuation(checkpoint.position, regime)
    position = regimes.run_regimes(
        run,
        settings,
        model_dir,
        classifier,
        requests,
        rows=rows,
        checkpoint=checkpoint,
    )
    summary = conclude(
        run, settings, model_dir, info.classes, position.history, requests
    )
    # Of use to this run alone; what is to be shared lies in --cache_dir.
    if run.is_chief:
        shutil.rmtree(model_dir / stages.FEATURES_DIR, ignore_errors=True)
    return summary


def _build(
    run: Runtime, settings: TrainConfig, backbone: keras.Model, info: DataInfo
) -> Classifier:
    with run.strategy.scope():
        return model.build_classifier(
            backbone,
            settings.backbone,
            num_classes=len(info.classes),
            pooling=settings.pooling,
            head_units=settings.head_units,
            dropout=settings.dropout,
        )


def _search(
    run: Runtime,
    settings: TrainConfig,
    model_dir: pathlib.Path,
    classifier: Classifier,
    info: DataInfo,
    requests: Requests,
) -> dict:
    """What search_head() finds, or found when the run began."""
    found = checkpoints.read_search(model_dir) if run.is_chief else None
    if not runtime.take_from_chief(run, found is not None):
        with interrupt.busy(requests):
            found = sweep.search_head(
                run, settings, model_dir, classifier, len(info.classes), requests
            )
        if run.is_chief:
            checkpoints.record_search(model_dir, found)
        runtime.wait_for_all(run)
    return checkpoints.read_search(model_dir)


def _choose_checkpoint(run: Runtime, model_dir: pathlib.Path) -> Checkpoint | None:
    """The newest whole checkpoint, as the chief sees it."""
    checkpoint = checkpoints.load_newest(model_dir) if run.is_chief else None
    steps = checkpoint.position.total_steps if checkpoint is not None else -1
    chosen = runtime.take_from_chief(run, steps)
    if chosen == -1 or run.is_chief:
        return checkpoint
    return checkpoints.load(checkpoints.checkpoint_path(model_dir, chosen))


def _prepare(run: Runtime, settings: TrainConfig, model_dir: pathlib.Path) -> None:
    if runtime.has_several_workers(run):
        raise ValueError(
            "Several workers need data that is prepared already: run pipeline.main "
            f"first and give --data_dir. Received: --source={settings.source}"
        )
    if not os.path.exists(settings.data_dir):
        prepare.prepare(settings.source, settings.data_dir, seed=settings.seed)
        print()


def _describe_data(settings: TrainConfig) -> dict:
    """What tells one data set from another, wherever it lies."""
    info = dataset.read_info(settings.data_dir)
    splits = pathlib.Path(settings.data_dir, "splits.csv").read_bytes()
    return {
        "classes": list(info.classes),
        "counts": info.counts,
        "splits_sha256": hashlib.sha256(splits).hexdigest(),
    }


def _calibrate(classifier: Classifier, settings: TrainConfig) -> None:
    # One global batch, read the same way by every worker, so that all agree.
    batches = dataset.make_eval_dataset(
        dataset.read_records(settings.data_dir, "train"),
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        per_replica_batch_size=settings.batch_size,
    )
    model.calibrate_batch_norm(classifier, next(iter(batches))["image"])
