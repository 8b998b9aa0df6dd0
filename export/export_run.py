"""From a finished run to a verified, versioned SavedModel."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from export.checks.requests import Expected
from export.checks.run_checks import check_export
from export.version import model_card, publish, server_files
from export.version.reduced_precision import (
    find_data,
    predict_probabilities,
    prepare_for_serving,
)
from export.version.write import write_saved_model
from pipeline import decoding
from pipeline.loading import prepared_data
from pipeline.sources import drawn_flowers
from pipeline.system import files
from trainer.models.classifier import Classifier

_PHOTOGRAPHS = 64


def export_run(
    model_dir: str,
    export_dir: str,
    *,
    precision: str = "float32",
    max_accuracy_drop: float = 0.01,
    keep: int | None = None,
) -> str:
    """Exports a run's best weights as the next version below export_dir.

    The version appears, whole, after it passed every gate; see gates.py.

    Args:
      precision: of the served arithmetic, "float32" or "bfloat16".
      max_accuracy_drop: how much of the test accuracy bfloat16 may cost.
      keep: how many older versions stay; None keeps all.

    Returns:
      The version's directory.

    Raises:
      ValueError: no finished run in model_dir, nothing can be written to export_dir,
        bfloat16 costs too much, or a gate stays shut.
    """
    run_dir, base = pathlib.Path(model_dir), pathlib.Path(export_dir)
    files.check_writable(base, "export_dir")
    config, classes, regime = run_dir.read_run(run_dir)
    trained = run_dir.restore_classifier(config, classes, run_dir, regime)
    photographs, origin = _find_photographs(config.data_dir, model_dir)
    served, measured = prepare_for_serving(
        trained, config, model_dir, photographs, precision, max_accuracy_drop
    )
    summary = json.loads((run_dir / run_dir.SUMMARY_FILE).read_text())
    described = model_card.build_model_card(
        config,
        summary,
        classes,
        regime=regime,
        precision=precision,
        measured=measured,
    )
    with files.temporary_sibling(base / "next") as work_dir:
        candidate = work_dir / "saved_model"
        try:
            write_saved_model(candidate, served, classes, image_size=config.image_size)
        except tf.errors.OpError as error:  # such as of a full disk
            raise OSError(error.message) from error
        model_card.write_model_card(candidate, described)
        difference = check_export(
            candidate,
            photographs,
            decoding.decode(tf.constant(photographs[0])).numpy()[np.newaxis],
            Expected(
                classes=classes,
                embedding_size=served.head.layers[1].output.shape[-1],
                weight_bytes=_count_weight_bytes(served),
                probabilities=predict_probabilities(
                    trained if precision == "float32" else served,
                    photographs,
                    image_size=config.image_size,
                ),
                precision=precision,
            ),
        )
        version = publish.publish(candidate, base, keep=keep)
    run_dir.record_export(run_dir, str(version))
    print(
        f"exported {version} ({regime} weights, {precision}): passed every gate; "
        f"outside Python probabilities are within {difference:.1e} of the model's on "
        f"{len(photographs)} {origin}\nserve it with\n{server_files.docker_command(base)}",
        flush=True,
    )
    return str(version)


def _count_weight_bytes(classifier: Classifier) -> int:
    return sum(
        int(np.prod(weight.shape)) * tf.as_dtype(weight.dtype).size
        for part in (classifier.backbone, classifier.head)
        for weight in part.weights
    )


def _find_photographs(data_dir: str, model_dir: str) -> tuple[list[bytes], str]:
    """Real image bytes to try the export with, and what they are."""
    found = find_data(data_dir, model_dir)
    if found is not None:
        examples = prepared_data.read_records(found, "test").dataset.take(_PHOTOGRAPHS)
        encoded = [example["image_bytes"] for example in examples.as_numpy_iterator()]
        return encoded, "test photographs"
    drawn = [drawn_flowers.draw_jpeg(label, 0) for label in drawn_flowers.CLASSES]
    return drawn, f"drawn images (no data at {data_dir})"
