"""Exports a finished run as the next version that TensorFlow Serving loads."""

import json
import pathlib
import time
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import tensorflow as tf

from export.checks.check_export import check_export
from export.checks.check_requests import ExpectedExport
from export.version import model_card, publish, server_files
from export.version.folding import fold_and_compare, predict_replies
from export.version.reduced_precision import lower_precision
from export.version.reference import add_reference
from export.version.write import write_saved_model
from pipeline import decoding
from pipeline.loading import prepared_data
from pipeline.sources import drawn_flowers
from pipeline.system import files
from trainer.models.classifier import Classifier
from trainer.postprocessing import postprocessing as postprocessing_file
from trainer.postprocessing.postprocessing import Postprocessing
from trainer.training import run_config, run_dir

_NUM_TEST_IMAGES = 64
# What the checks compare is computed where they run: a GPU rounds otherwise.
_CPU = "CPU:0"


# Longer than 60 lines: it is the whole way of a version, one step after the other.
def export_run(
    model_dir: str,
    export_dir: str,
    *,
    precision: str = "float32",
    max_accuracy_drop: float = 0.01,
    keep: int | None = None,
) -> str:
    """Exports the best weights of a run as the next version below export_dir.

    The version appears whole, and only after it passed all checks.

    Args:
      model_dir: directory of a finished run.
      export_dir: directory of the versions; it is created if necessary.
      precision: arithmetic of the served model, "float32" or "bfloat16".
      max_accuracy_drop: the largest drop of the test accuracy that bfloat16 may cause.
      keep: number of older versions that stay; None keeps all.

    Returns:
      The directory of the version.

    Raises:
      ValueError: model_dir holds no finished run, export_dir is not writable, bfloat16
        costs too much accuracy, or a check failed.
      OSError: the disk is full or fails.
    """
    model_path, export_path = pathlib.Path(model_dir), pathlib.Path(export_dir)
    files.check_writable(export_path, "export_dir")
    config, classes, regime = run_dir.read_run(model_path)
    postprocessing = _read_postprocessing(model_path)
    form = run_config.read_stored_form(model_path)
    data_dir = _find_prepared_data(config.data_dir, model_path)
    images = _read_images(data_dir)

    with tf.device(_CPU):
        trained = run_dir.restore_classifier(config, classes, model_path, regime)
        served, replies = fold_and_compare(
            trained, postprocessing, images, image_size=config.image_size
        )
    measured = None
    if precision != "float32":
        served, measured = lower_precision(
            trained,
            precision,
            data_dir=data_dir,
            image_size=config.image_size,
            max_accuracy_drop=max_accuracy_drop,
        )
        with tf.device(_CPU):
            replies = predict_replies(
                served, postprocessing, images, image_size=config.image_size
            )
    expected = ExpectedExport(
        classes=classes,
        embedding_size=served.head.layers[1].output.shape[-1],
        weight_bytes=_count_weight_bytes(served),
        replies=replies,
        postprocessing=postprocessing,
        precision=precision,
        form=form,
    )
    card = model_card.build_model_card(
        config,
        json.loads((model_path / run_dir.SUMMARY_FILE).read_text()),
        classes,
        regime=regime,
        precision=precision,
        measured=measured,
        form=form,
    )
    with files.temporary_sibling(export_path / "next") as work_dir:
        candidate = work_dir / "saved_model"
        write_saved_model(
            candidate,
            served,
            classes,
            postprocessing,
            image_size=config.image_size,
            form=form,
        )
        model_card.write_model_card(candidate, card)
        pixels = decoding.decode(tf.constant(images[0])).numpy()[np.newaxis]
        # The checks run in a process of their own, and leave this one idle.
        with futures.ThreadPoolExecutor(1) as thread:
            reference_added = thread.submit(add_reference, candidate, classes, data_dir)
            start = time.monotonic()
            difference = check_export(candidate, images, pixels, expected)
            # The check loads the version as a server does, and sends more requests.
            load_seconds = time.monotonic() - start
            reference_added.result()
        version_dir = publish.publish(
            candidate, export_path, keep=keep, load_seconds=load_seconds
        )
    run_dir.record_export(model_path, str(version_dir))
    image_kind = "drawn images" if data_dir is None else "test images"
    print(
        f"exported {version_dir} ({regime} weights, {precision})\n"
        f"it passed all checks: on {len(images)} {image_kind} its probabilities differ "
        f"from the model's by {difference:.1e} at most\n"
        "serve it with TensorFlow Serving:\n"
        f"{server_files.docker_command(export_path)}",
        flush=True,
    )
    return str(version_dir)


def _read_postprocessing(model_dir: pathlib.Path) -> Postprocessing:
    path = model_dir / postprocessing_file.FILE
    if not path.is_file():
        raise ValueError(
            "The run was evaluated before version 0.3, which fits calibration and "
            f"unknown scores. Received: --model_dir={model_dir}; the command that "
            "trained it evaluates it again."
        )
    return postprocessing_file.read(path)


def _find_prepared_data(data_dir: str | None, model_dir: pathlib.Path) -> str | None:
    """Returns where the prepared data of a run is now, or None.

    A run that has moved still has the data that it prepared itself.
    """
    for candidate in (data_dir, str(model_dir / "data")):
        if candidate is not None and pathlib.Path(candidate).is_dir():
            return candidate
    return None


def _read_images(data_dir: str | None) -> Sequence[bytes]:
    """Returns encoded images to check the export with: test images, or drawn ones."""
    if data_dir is None:
        return [drawn_flowers.draw_jpeg(name, 0) for name in drawn_flowers.CLASSES]
    examples = prepared_data.read_records(data_dir, "test").dataset
    examples = examples.take(_NUM_TEST_IMAGES)
    return [example["image_bytes"] for example in examples.as_numpy_iterator()]


def _count_weight_bytes(classifier: Classifier) -> int:
    return sum(
        int(np.prod(weight.shape)) * tf.as_dtype(weight.dtype).size
        for part in (classifier.backbone, classifier.head)
        for weight in part.weights
    )
