"""From a finished run to a verified, versioned SavedModel."""

import os
import pathlib
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from export.serving import ServingModel
from pipeline import dataset, files, preprocess, sample
from trainer import checkpoints, model
from trainer.model import Classifier

_VERIFY_IMAGES = 16
_TOLERANCE = 1e-5


def export_run(model_dir: str, export_dir: str) -> str:
    """Exports a run's best weights as the next version below export_dir.

    The version appears only after it was loaded again and gave the in-memory model's
    probabilities on real image bytes.

    Returns:
      The version's directory.

    Raises:
      ValueError: no finished run in model_dir.
      RuntimeError: the export does not compute what the model computes.
    """
    config, classes, regime = checkpoints.read_run(pathlib.Path(model_dir))
    classifier = checkpoints.restore(config, classes, pathlib.Path(model_dir), regime)
    images, origin = _find_images(config.data_dir, model_dir)
    serving = ServingModel(classifier, classes, image_size=config.image_size)
    base = pathlib.Path(export_dir)
    version = _next_version(base)
    with files.temporary_sibling(version) as work_dir:
        candidate = work_dir / "saved_model"
        tf.saved_model.save(
            serving,
            str(candidate),
            signatures={"serving_default": serving.serving_default},
        )
        difference = verify(
            candidate, classifier, classes, images, image_size=config.image_size
        )
        files.publish_directory(candidate, version)
    checkpoints.record_export(pathlib.Path(model_dir), str(version))
    print(
        f"exported {version} ({regime} weights, float32): reloaded, probabilities "
        f"within {difference:.1e} of the model's on {len(images)} {origin}",
        flush=True,
    )
    return str(version)


def verify(
    saved_dir: pathlib.Path,
    classifier: Classifier,
    classes: Sequence[str],
    images: Sequence[bytes],
    *,
    image_size: int,
) -> float:
    """Loads a SavedModel and compares it with the model in memory.

    images: JPEG or PNG bytes.

    Returns:
      The largest difference of a probability.

    Raises:
      RuntimeError: a probability differs by more than 1e-5, or a label is another.
    """
    pixels = tf.stack(
        [preprocess.decode_and_resize(tf.constant(i), image_size) for i in images]
    )

    # In a graph, as training evaluates and the server runs: TensorFlow fuses layers
    # there, which rounds otherwise than running them one by one.
    @tf.function
    def predict():
        return tf.nn.softmax(model.compute_logits(classifier, pixels))

    expected = predict().numpy()
    reloaded = tf.saved_model.load(str(saved_dir))
    served = reloaded.signatures["serving_default"](
        image_bytes=tf.constant(list(images))
    )
    difference = float(np.abs(served["probabilities"].numpy() - expected).max())
    labels = [label.decode() for label in served["label"].numpy()]
    named = [classes[i] for i in served["class_id"].numpy()]
    if not difference <= _TOLERANCE or labels != named:
        raise RuntimeError(
            f"The export differs from the model by {difference} in a probability "
            f"(allowed: {_TOLERANCE}); it was not published."
        )
    return difference


def _find_images(data_dir: str, model_dir: str) -> tuple[list[bytes], str]:
    """Real image bytes to verify with, and what they are."""
    for candidate in (data_dir, os.path.join(model_dir, "data")):
        if os.path.isdir(candidate):
            records = dataset.read_records(candidate, "test")
            examples = records.dataset.take(_VERIFY_IMAGES).as_numpy_iterator()
            return [example["image_bytes"] for example in examples], "test images"
    drawn = [sample.draw_jpeg(label, 0) for label in sample.CLASSES]
    return drawn, f"drawn images (no data at {data_dir})"


def _next_version(base: pathlib.Path) -> pathlib.Path:
    """Unix seconds, and more than every version that is there."""
    versions = [
        int(entry.name)
        for entry in (base.iterdir() if base.is_dir() else [])
        if entry.name.isdecimal()
    ]
    return base / str(max([int(time.time()), *(v + 1 for v in versions)]))
