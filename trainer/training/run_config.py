"""Reads and writes config.json of a run, and checks that the run can continue.

docs/reference/files.md describes the format.
"""

import dataclasses
import hashlib
import json
import pathlib
import platform
from typing import Any, NotRequired, TypedDict

from pipeline.inspection.reencoding import StoredForm
from pipeline.loading import prepared_data
from pipeline.system import files, texts, versions
from trainer.config.run_files import CONFIG_FILE, CONFIG_FORMAT
from trainer.config.stored_config import MAY_CHANGE, config_from_json
from trainer.config.train_config import TrainConfig
from trainer.distribution.runtime import Runtime


class DataFingerprint(TypedDict):
    """Tells one data set from another, in whatever directory it is.

    background, sample_bits: see StoredForm; absent in runs of earlier versions.
    """

    classes: list[str]
    counts: dict[str, int]
    splits_sha256: str
    background: NotRequired[str]
    sample_bits: NotRequired[int | None]


class RunConfig(TypedDict, total=False):
    """The content of config.json.

    format: CONFIG_FORMAT; absent in the first format.
    project: version and commit of this project; absent in the first format.
    flags: the fields of TrainConfig.
    precision: the Keras dtype policy that the run trains under.
    replicas: number of replicas when the run began.
    data: the data set of the run.
    weights_from: where the initial weights came from.
    python, versions: versions of Python and of packages.
    search: the result of search_head(); absent before it.
    steps: regime -> number of steps that fit into --minutes; absent without that flag.
    """

    format: int
    project: dict[str, str | None]
    flags: dict[str, Any]
    precision: str
    replicas: int
    data: DataFingerprint
    weights_from: str
    python: str
    versions: dict[str, str]
    search: dict[str, Any]
    steps: dict[str, int]


def write_config(
    model_dir: pathlib.Path, config: TrainConfig, runtime: Runtime, weights_from: str
) -> None:
    """Writes config.json; see RunConfig."""
    content = RunConfig(
        format=CONFIG_FORMAT,
        project=versions.project_version(),
        flags=dataclasses.asdict(config),
        precision=runtime.precision,
        replicas=runtime.strategy.num_replicas_in_sync,
        data=fingerprint_data(config.data_dir),
        weights_from=weights_from,
        python=platform.python_version(),
        versions=versions.package_versions(),
    )
    files.write_json(model_dir / CONFIG_FILE, content)


def read_config(model_dir: pathlib.Path) -> RunConfig:
    """Reads config.json.

    Raises:
      ValueError: a later version of this program wrote it.
    """
    content: RunConfig = json.loads((model_dir / CONFIG_FILE).read_text())
    file_format = content.get("format", 1)
    if file_format > CONFIG_FORMAT:
        raise ValueError(
            f"{CONFIG_FILE} has format {file_format}, and this version reads formats "
            f"up to {CONFIG_FORMAT}. Received: --model_dir={model_dir}; use a newer "
            "version of this project."
        )
    return content


def record_search(model_dir: pathlib.Path, search: dict[str, Any]) -> None:
    """Adds the result of search_head() to config.json."""
    content = read_config(model_dir)
    content["search"] = search
    files.write_json(model_dir / CONFIG_FILE, content)


def read_search(model_dir: pathlib.Path) -> dict[str, Any] | None:
    """Returns what record_search() wrote, or None before that."""
    return read_config(model_dir).get("search")


def record_steps(model_dir: pathlib.Path, regime: str, steps: int) -> None:
    """Adds to config.json the number of steps of a regime that fit into --minutes."""
    content = read_config(model_dir)
    content["steps"] = content.get("steps", {}) | {regime: steps}
    files.write_json(model_dir / CONFIG_FILE, content)


def read_steps(model_dir: pathlib.Path) -> dict[str, int]:
    """Returns what record_steps() wrote: regime -> number of steps."""
    return read_config(model_dir).get("steps", {})


def check_same_run(
    model_dir: pathlib.Path, config: TrainConfig, runtime: Runtime
) -> None:
    """Checks that the run in model_dir can continue with these flags.

    Raises:
      ValueError: a flag that decides the result, or the precision, has another value
        than before.
    """
    stored = read_config(model_dir)
    before = _to_json(config_from_json(stored["flags"]))
    now = _to_json(config)
    for name in sorted(set(now) - MAY_CHANGE):
        if before[name] != now[name]:
            _refuse_flag(model_dir, name, before[name], now[name])
    if stored["precision"] != runtime.precision:
        _refuse_flag(model_dir, "precision", stored["precision"], runtime.precision)


def _to_json(config: TrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _refuse_flag(
    model_dir: pathlib.Path, flag: str, before: object, now: object
) -> None:
    raise ValueError(
        f"The run in --model_dir={model_dir} was started with --{flag}={before} and "
        f"can only continue with it. Received: --{flag}={now}; name another "
        "--model_dir to start a new run."
    )


def fingerprint_data(data_dir: str) -> DataFingerprint:
    """Returns the fingerprint of a data set."""
    info = prepared_data.read_info(data_dir)
    splits = pathlib.Path(data_dir, "splits.csv").read_bytes()
    form = prepared_data.read_stored_form(data_dir)
    return DataFingerprint(
        classes=list(info.classes),
        counts=info.counts,
        splits_sha256=hashlib.sha256(splits).hexdigest(),
        background=form.background,
        sample_bits=form.sample_bits,
    )


def read_stored_form(model_dir: pathlib.Path) -> StoredForm:
    """Returns how the images of a run's data were stored, but for their size."""
    data = read_config(model_dir).get("data")
    if data is None:
        return StoredForm()
    return StoredForm(
        sample_bits=data.get("sample_bits"),
        background=data.get("background", "white"),
    )


def check_same_data(model_dir: pathlib.Path, data: DataFingerprint) -> None:
    """Checks that the data set is the one that the run began with.

    Raises:
      ValueError: it is another one; the message names the first difference.
    """
    before = read_config(model_dir)["data"]
    # Earlier versions did not write all keys.
    if any(data.get(key) != value for key, value in before.items()):
        raise ValueError(
            f"The run in --model_dir={model_dir} was started on other data and can "
            f"only continue on that. Received: {_describe_difference(before, data)}. "
            "Name the --data_dir of the run, or another --model_dir to start a new run."
        )


def _describe_difference(before: DataFingerprint, now: DataFingerprint) -> str:
    """Describes the first difference: classes, numbers of images, or splits."""
    new = sorted(set(now["classes"]) - set(before["classes"]))
    missing = sorted(set(before["classes"]) - set(now["classes"]))
    differences = [
        f"{word} {texts.list_some([repr(name) for name in names], limit=3)}"
        for word, names in (("new", new), ("missing", missing))
        if names
    ]
    if differences:
        return f"data with other classes: {'; '.join(differences)}"
    if before["classes"] != now["classes"]:
        return "data with the same classes in another order"
    counts = [
        f"{split} has {count} instead of {before['counts'].get(split, 0)}"
        for split, count in now["counts"].items()
        if count != before["counts"].get(split, 0)
    ]
    if counts:
        return f"data with other numbers of images: {', '.join(counts)}"
    if before["splits_sha256"] == now["splits_sha256"]:
        return (
            f"data with background={now.get('background')} and sample_bits="
            f"{now.get('sample_bits')} instead of {before.get('background')} and "
            f"{before.get('sample_bits')}"
        )
    return (
        "data with the same classes and numbers of images, but with other images or "
        "splits (splits.csv differs)"
    )
