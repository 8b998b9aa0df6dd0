"""run_regimes(): trains one regime after the other, and continues where a run ended."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

from pipeline.loading import prepared_data
from pipeline.system import files
from trainer.config.train_config import MAY_CHANGE, TrainConfig
from trainer.distribution.runtime import Runtime
from trainer.models import backbones
from trainer.models.classifier import Classifier, build_classifier, dtype_policy
from trainer.training import checkpoints
from trainer.training.checkpoints import Position

METRICS_FILE = "metrics.jsonl"


def write_metrics(model_dir: pathlib.Path, position: Position) -> None:
    """Writes metrics.jsonl, one line for each complete epoch."""
    lines = [json.dumps(line) + "\n" for line in position.history]
    files.write_text(model_dir / METRICS_FILE, "".join(lines))


CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"

# What HDF5 writes besides.
_ROOM_BESIDE_WEIGHTS_BYTES = 1 << 20


def best_weights_path(model_dir: pathlib.Path, regime: str) -> pathlib.Path:
    """Where the best weights of a regime lie, once it is complete."""
    return checkpoints.checkpoints_dir(model_dir) / f"{regime}.best.weights.h5"


def save_best_weights(
    classifier: Classifier, model_dir: pathlib.Path, regime: str
) -> None:
    """Saves the weights as the regime's best, whole or not at all.

    Raises:
      OSError: there is no room. Not left to h5py, which on a full disk does not close
        its file and takes the process down with it.
    """
    path = best_weights_path(model_dir, regime)
    path.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = sum(weight.numpy().nbytes for weight in classifier.model.weights)
    free = shutil.disk_usage(path.parent).free
    if free < num_bytes + _ROOM_BESIDE_WEIGHTS_BYTES:
        raise OSError(
            f"The weights take {num_bytes / 1e6:.3g} MB, and the disk has "
            f"{free / 1e6:.3g} MB. Received: --model_dir={model_dir}; make room, and "
            "the same command continues."
        )
    partial = path.with_name(f".{regime}.tmp.weights.h5")
    classifier.model.save_weights(partial)
    partial.replace(path)


def write_config(
    model_dir: pathlib.Path,
    config: TrainConfig,
    runtime: Runtime,
    **content: object,
) -> None:
    """Writes config.json: every flag, what it came to, and `content`."""
    files.write_json(
        model_dir / CONFIG_FILE,
        {
            "flags": dataclasses.asdict(config),
            "precision": runtime.precision,
            "replicas": runtime.strategy.num_replicas_in_sync,
            **content,
        },
    )


def record_search(model_dir: pathlib.Path, found: dict) -> None:
    """Notes in the run's config what sweep.search_head() found."""
    path = model_dir / CONFIG_FILE
    files.write_json(path, json.loads(path.read_text()) | {"search": found})


def read_search(model_dir: pathlib.Path) -> dict | None:
    """What record_search() noted; None: nothing yet."""
    return json.loads((model_dir / CONFIG_FILE).read_text()).get("search")


def check_same_run(
    model_dir: pathlib.Path, config: TrainConfig, runtime: Runtime
) -> dict:
    """Reads the config.json of the run that is to continue.

    Raises:
      ValueError: a flag that matters has another value than it had.
    """
    stored = json.loads((model_dir / CONFIG_FILE).read_text())
    before = stored["flags"]
    now = json.loads(json.dumps(dataclasses.asdict(config)))
    for name in sorted(set(now) - MAY_CHANGE):
        if name in before and before[name] != now[name]:
            _refuse(model_dir, name, before[name], now[name])
    if stored["precision"] != runtime.precision:
        _refuse(model_dir, "precision", stored["precision"], runtime.precision)
    return stored


def check_same_data(model_dir: pathlib.Path, data: dict) -> None:
    """Compares classes and counts with those that the run began with.

    Raises:
      ValueError: they differ.
    """
    before = json.loads((model_dir / CONFIG_FILE).read_text())["data"]
    if before != data:
        raise ValueError(
            f"The run in --model_dir={model_dir} was started on other data, {before}, "
            f"and can only continue on it. Received: {data}"
        )


def _refuse(model_dir: pathlib.Path, flag: str, before: object, now: object) -> None:
    raise ValueError(
        f"The run in --model_dir={model_dir} was started with --{flag}={before} and "
        f"can only continue with it. Received: --{flag}={now}; name another "
        "--model_dir to start anew."
    )


def read_run(model_dir: pathlib.Path) -> tuple[TrainConfig, tuple[str, ...], str]:
    """Reads a finished run: its config, its classes and its best regime.

    Raises:
      ValueError: no finished run there.
    """
    for name in (CONFIG_FILE, SUMMARY_FILE):
        if not (model_dir / name).is_file():
            raise ValueError(
                "--model_dir must be the directory of a finished run of trainer.main. "
                f"Received: --model_dir={model_dir}, which has no {name}."
            )
    stored = json.loads((model_dir / CONFIG_FILE).read_text())
    flags = stored["flags"] | stored.get("search", {}).get("chosen", {})
    for name in ("regimes", "profile_steps"):
        flags[name] = tuple(flags[name]) if flags[name] else None
    summary = json.loads((model_dir / SUMMARY_FILE).read_text())
    return TrainConfig(**flags), tuple(summary["classes"]), summary["best_regime"]


def record_export(model_dir: pathlib.Path, version_dir: str) -> None:
    """Notes the newest export in the run's summary."""
    path = model_dir / SUMMARY_FILE
    files.write_json(path, json.loads(path.read_text()) | {"export": version_dir})


def restore_classifier(
    config: TrainConfig, classes: tuple[str, ...], model_dir: pathlib.Path, regime: str
) -> Classifier:
    """Builds a run's classifier again, in float32, with a regime's best weights.

    The final evaluation and the export both use it: what is measured is what is served.
    """
    with dtype_policy("float32"):
        backbone = backbones.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        classifier = build_classifier(
            backbone,
            config.backbone,
            num_classes=len(classes),
            pooling=config.pooling,
            head_units=config.head_units,
            dropout=config.dropout,
        )
    backbones.load_weights(classifier.model, str(best_weights_path(model_dir, regime)))
    return classifier


@contextlib.contextmanager
def lock_run_dir(model_dir: pathlib.Path) -> Iterator[None]:
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


def remove_partial_run(model_dir: pathlib.Path, existed: bool) -> None:
    """Leaves what cost time and is right, the prepared data, for the next attempt."""
    for path in model_dir.iterdir():
        if path.is_dir() and path.name != "data":
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)
    if not existed:
        with contextlib.suppress(OSError):  # not empty
            model_dir.rmdir()


def check_empty(model_dir: pathlib.Path, config: TrainConfig) -> None:
    if not os.path.lexists(model_dir):
        return
    # What a run left that was killed in or after its preparation may be there.
    if not model_dir.is_dir() or any(
        not path.name.startswith(".data.tmp-")
        and not (path.name == "data" and _is_prepared_from(path, config))
        for path in model_dir.iterdir()
    ):
        raise ValueError(
            "--model_dir must be new, empty or a run to continue. Received: "
            f"--model_dir={model_dir}, which holds something else."
        )


def _is_prepared_from(data_dir: pathlib.Path, config: TrainConfig) -> bool:
    try:
        made_by = json.loads((data_dir / "audit.json").read_text())["config"]
    except (OSError, ValueError, KeyError):
        return False
    return (made_by["source"], made_by["seed"]) == (config.source, config.seed)


def data_fingerprint(config: TrainConfig) -> dict:
    """What tells one data set from another, wherever it lies."""
    info = prepared_data.read_info(config.data_dir)
    splits = pathlib.Path(config.data_dir, "splits.csv").read_bytes()
    return {
        "classes": list(info.classes),
        "counts": info.counts,
        "splits_sha256": hashlib.sha256(splits).hexdigest(),
    }
