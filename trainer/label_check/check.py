"""Runs the whole label check, and writes label_issues.csv and labels.html."""

import csv
import importlib.util
import json
import pathlib
from collections.abc import Container, Mapping, Sequence

import numpy as np

from pipeline.inspection.thumbnail import make_thumbnail
from pipeline.loading import prepared_data
from pipeline.loading.prepared_data import Records
from pipeline.sources.images import SPLITS
from pipeline.splits import splits_csv
from pipeline.system import files, texts
from trainer.config.train_config import TrainConfig
from trainer.distribution import collectives, preemption
from trainer.distribution.preemption import StopSignal
from trainer.distribution.runtime import Runtime, set_up_runtime
from trainer.head_search.pooled_features import PooledSplit, extract_plain
from trainer.label_check import labels_page, out_of_fold
from trainer.label_check.labels_page import CheckedData
from trainer.label_check.out_of_fold import Photographs
from trainer.label_check.ranking import Ranking, rank
from trainer.models import backbones
from trainer.models.classifier import Classifier, build_classifier

ISSUES_FILE = "label_issues.csv"
PAGE_FILE = "labels.html"
_COLUMNS = ("name", "label", "suggested_label", "score", "split")


def check_prepared_data(config: TrainConfig, stop_signal: StopSignal) -> None:
    """Checks the labels of prepared data without a run; writes into config.model_dir.

    Raises:
      ValueError: a flag, the data or the weights cannot be used.
      preemption.Stopped: the process was asked to stop; nothing is written.
    """
    check_requirements(config)
    out_dir = pathlib.Path(config.model_dir)
    files.check_writable(out_dir, "out")
    prepared_data.read_info(config.data_dir)
    runtime = set_up_runtime(
        strategy=config.strategy,
        precision=config.precision,
        virtual_devices=config.virtual_devices,
        batch_size=config.batch_size,
        seed=config.seed,
        xla=config.xla,
        stop_signal=stop_signal,
    )
    with files.temporary_sibling(out_dir) as work_dir:
        check_labels(runtime, config, out_dir, work_dir=work_dir)


def check_requirements(config: TrainConfig) -> None:
    """Checks, with --check_labels, that the package of the label check is installed.

    Raises:
      ValueError: cleanlab is not installed.
    """
    if config.check_labels and importlib.util.find_spec("cleanlab") is None:
        raise ValueError(
            "The label check needs the package cleanlab, which is not installed. "
            "Received: --check_labels; run pip install -e '.[trust]' first."
        )


def check_run(runtime: Runtime, config: TrainConfig, model_dir: pathlib.Path) -> None:
    """Checks the labels of a run with --check_labels, unless labels.html exists.

    Raises:
      ValueError, preemption.Stopped: see check_labels.
    """
    is_done = (model_dir / PAGE_FILE).is_file()
    if config.check_labels and not collectives.broadcast_from_chief(runtime, is_done):
        with preemption.defer(runtime.stop_signal):
            check_labels(runtime, config, model_dir, work_dir=model_dir)


def check_labels(
    runtime: Runtime,
    config: TrainConfig,
    out_dir: pathlib.Path,
    *,
    work_dir: pathlib.Path,
) -> None:
    """Checks the labels of all splits on features of the pretrained backbone.

    Writes out_dir/label_issues.csv and out_dir/labels.html. Each worker computes its
    share of the features; the chief writes the files.

    work_dir: directory of the features if --cache_dir is not set.

    Raises:
      ValueError: the data or the weights cannot be used, or there are too few
        photographs.
      preemption.Stopped: the process was asked to stop.
    """
    info = prepared_data.read_info(config.data_dir)
    classifier = _make_classifier(runtime, config, len(info.classes))
    pooled = extract_plain(
        runtime,
        config,
        work_dir,
        classifier,
        num_classes=len(info.classes),
        splits=SPLITS,
    )
    if runtime.is_chief:
        records = [
            prepared_data.read_records(config.data_dir, split, cached=False)
            for split in SPLITS
        ]
        _rank_and_write(config, info.classes, records, pooled, out_dir)


def _make_classifier(
    runtime: Runtime, config: TrainConfig, num_classes: int
) -> Classifier:
    """Returns a classifier whose backbone has its initial weights."""
    with runtime.strategy.scope():
        backbone = backbones.build_backbone(
            config.backbone, config.backbone_args, image_size=config.image_size
        )
        backbones.load_backbone_weights(
            backbone, config.backbone, config.backbone_args, config.weights
        )
        return build_classifier(
            backbone, config.backbone, num_classes=num_classes, head=config.head
        )


def _rank_and_write(
    config: TrainConfig,
    classes: Sequence[str],
    records: Sequence[Records],
    pooled: Sequence[PooledSplit],
    out_dir: pathlib.Path,
) -> None:
    group_of = splits_csv.read_groups(config.data_dir)
    names = [name for split in records for name in prepared_data.read_names(split)]
    splits = [
        split
        for split, part in zip(SPLITS, pooled, strict=True)
        for _ in range(len(part.labels))
    ]
    labels = np.concatenate([part.labels for part in pooled])
    photographs = Photographs(
        features=np.concatenate(
            [part.plain for part in pooled if part.plain is not None]
        ),
        labels=labels,
        groups=[group_of[name] for name in names],
        is_test=np.array(splits) == "test",
    )
    probabilities = out_of_fold.predict_out_of_fold(
        photographs, num_classes=len(classes), seed=config.seed
    )
    ranking = rank(labels, probabilities)
    data = CheckedData(names, splits, classes, _read_decided(config.data_dir))
    issues = labels_page.choose_issues(ranking, data)
    thumbnails = _make_thumbnails(records, {issue.position for issue in issues})
    page = labels_page.render_page(ranking, data, issues, thumbnails)
    out_dir.mkdir(parents=True, exist_ok=True)
    _write_issues(out_dir / ISSUES_FILE, ranking, data)
    files.write_text(out_dir / PAGE_FILE, page)
    _print_outcome(ranking, data, labels)


def _read_decided(data_dir: str) -> dict[str, dict[str, str]]:
    """Returns name -> action and label of the corrections in audit.json."""
    path = pathlib.Path(data_dir, "audit.json")
    if not path.is_file():
        return {}
    corrections = json.loads(path.read_text(encoding="utf-8")).get("corrections")
    return {
        decision["name"]: {"action": decision["action"], "label": decision["label"]}
        for decision in (corrections or {}).get("decisions", [])
    }


def _make_thumbnails(
    records: Sequence[Records], positions: Container[int]
) -> Mapping[int, str]:
    """Maps positions to JPEG data in base64; a position counts through all splits."""
    thumbnails: dict[int, str] = {}
    start = 0
    for split in records:
        for index, example in enumerate(split.dataset.as_numpy_iterator(), start):
            if index in positions:
                thumbnails[index] = make_thumbnail(
                    example["image_bytes"], labels_page.THUMBNAIL_PX
                )
        start += split.count
    return thumbnails


def _write_issues(path: pathlib.Path, ranking: Ranking, data: CheckedData) -> None:
    """Writes all photographs that could be checked, the most suspicious first."""
    with (
        files.write_aside(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for issue in ranking.issues:
            writer.writerow(
                [
                    texts.escape_formula(data.names[issue.position]),
                    texts.escape_formula(data.classes[issue.label]),
                    texts.escape_formula(data.classes[issue.suggested]),
                    f"{issue.score:.6g}",
                    data.splits[issue.position],
                ]
            )


def _print_outcome(ranking: Ranking, data: CheckedData, labels: np.ndarray) -> None:
    classes = [texts.escape_controls(name) for name in data.classes]
    print(
        f"\nlabels checked: {len(ranking.issues)} photographs; about "
        f"{ranking.estimated_errors} labels may be wrong (confident learning)"
    )
    if ranking.warning:
        print(f"WARNING: {ranking.warning}")
    if ranking.not_judged:
        lonely = sorted({classes[labels[i]] for i in ranking.not_judged})
        print(
            f"{len(ranking.not_judged)} photographs cannot be checked, because no "
            "other group of train and validation has their label: "
            f"{texts.list_some(lonely)}"
        )
    for issue in ranking.issues[:5]:
        print(
            f"  {texts.escape_controls(data.names[issue.position])}: "
            f"{classes[issue.label]} {issue.score:.3f}, {classes[issue.suggested]} "
            f"{issue.suggested_score:.3f}"
        )
