"""From a finished run to a verified, versioned SavedModel."""

import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pipeline import decoding
from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_eval_dataset
from trainer.config.train_config import TrainConfig
from trainer.models.batch_norm_folding import fold_batch_norm
from trainer.models.classifier import Classifier, assemble, compute_logits

PRECISIONS = ("float32", "bfloat16")
_FOLDING_TOLERANCE = 1e-5


def prepare_for_serving(
    trained: Classifier,
    config: TrainConfig,
    model_dir: str,
    photographs: Sequence[bytes],
    precision: str,
    max_accuracy_drop: float,
) -> tuple[Classifier, dict | None]:
    """Folds batch norm and lowers the precision; says what either changed."""
    size = config.image_size
    folded = fold_batch_norm(trained.backbone)
    served = _with_backbone(trained, folded.model)
    before, after = (
        predict_probabilities(classifier, photographs, image_size=size)
        for classifier in (trained, served)
    )
    change = float(np.abs(before - after).max())
    if not change <= _FOLDING_TOLERANCE:
        print(
            f"batch norm stays where it is: folding it changes a probability by "
            f"{change:.1e} (allowed: {_FOLDING_TOLERANCE})"
        )
        served = trained
    elif folded.folded or folded.kept:
        rest = f"; {len(folded.kept)} follow no convolution and stay"
        print(
            f"{folded.folded} batch norms folded into convolutions (a probability "
            f"changes by {change:.1e} at most){rest if folded.kept else ''}"
        )
    if precision == "float32":
        return served, None
    lowered = _with_backbone(
        trained, fold_batch_norm(trained.backbone, precision=precision).model
    )
    measured = _measure_accuracy(
        {"float32": trained, "served": lowered}, config, model_dir
    )
    drop = measured["float32"] - measured["served"]
    print(
        f"accuracy on {measured['count']} test photographs: {measured['float32']:.4f} "
        f"in float32, {measured['served']:.4f} in {precision} ({-drop:+.4f}; one "
        f"photograph is {1 / measured['count']:.4f})"
    )
    if drop > max_accuracy_drop:
        raise ValueError(
            f"{precision} costs more test accuracy than it may. Received: "
            f"--precision={precision} --max_accuracy_drop={max_accuracy_drop:g}, and "
            f"it costs {drop:.4f}; export with --precision=float32 or allow more."
        )
    return lowered, measured


def _with_backbone(classifier: Classifier, backbone: keras.Model) -> Classifier:
    """The head stays in float32, whatever the backbone computes in."""
    return assemble(classifier.normalise, backbone, classifier.head)


def predict_probabilities(
    classifier: Classifier, photographs: Sequence[bytes], *, image_size: int
) -> np.ndarray:
    """Encoded images -> float32 [N, K] probabilities, in a graph as training evaluates.

    TensorFlow fuses layers there, which rounds otherwise than one layer at a time.
    """

    @tf.function(autograph=False)
    def run(images):
        return tf.nn.softmax(compute_logits(classifier, images))

    pixels = [
        decoding.decode_and_resize(tf.constant(one), image_size) for one in photographs
    ]
    batches = [pixels[at : at + 32] for at in range(0, len(pixels), 32)]
    return np.concatenate([run(tf.stack(batch)).numpy() for batch in batches])


def _measure_accuracy(
    classifiers: dict[str, Classifier], config: TrainConfig, model_dir: str
) -> dict:
    """Name -> accuracy on the test split, and the count of its photographs."""
    data_dir = find_data(config.data_dir, model_dir)
    if data_dir is None:
        raise ValueError(
            "bfloat16 is only served with its accuracy measured, and the prepared data "
            f"is gone. Received: --precision=bfloat16, data in {config.data_dir}; "
            "bring it back or export with --precision=float32."
        )
    batches = make_eval_dataset(
        prepared_data.read_records(data_dir, "test"),
        image_size=config.image_size,
        batch_size=32,
    )
    predictors = {
        name: tf.function(
            lambda images, one=classifier: compute_logits(one, images),
            autograph=False,
        )
        for name, classifier in classifiers.items()
    }
    correct, count = dict.fromkeys(classifiers, 0.0), 0.0
    for batch in batches:
        weight = tf.cast(batch["weight"], tf.float32)
        count += float(tf.reduce_sum(weight))
        for name, predictor in predictors.items():
            predicted = tf.argmax(
                predictor(batch["image"]), axis=1, output_type="int32"
            )
            right = tf.cast(predicted == tf.cast(batch["label"], tf.int32), tf.float32)
            correct[name] += float(tf.reduce_sum(right * weight))
    return {name: value / count for name, value in correct.items()} | {
        "count": int(count)
    }


def find_data(data_dir: str, model_dir: str) -> str | None:
    for candidate in (data_dir, os.path.join(model_dir, "data")):
        if os.path.isdir(candidate):
            return candidate
    return None
