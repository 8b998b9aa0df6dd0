"""Lowers the precision of a classifier and measures what that costs."""

from typing import TypedDict

import tensorflow as tf

from export.version.folding import with_backbone
from pipeline.loading import prepared_data
from pipeline.loading.dataset import make_eval_dataset
from trainer.models.batch_norm_folding import fold_batch_norm
from trainer.models.classifier import Classifier, compute_logits

_BATCH_SIZE = 32


class MeasuredAccuracy(TypedDict):
    """The accuracy on the test split in float32 and as served, and its image count."""

    float32: float
    served: float
    count: int


def lower_precision(
    trained: Classifier,
    precision: str,
    *,
    data_dir: str | None,
    image_size: int,
    max_accuracy_drop: float,
) -> tuple[Classifier, MeasuredAccuracy]:
    """Folds batch norm and lowers the precision of the backbone. Prints the accuracy.

    Args:
      precision: "bfloat16".
      data_dir: the prepared data, to measure the accuracy on; None if it is gone.
      image_size: side of the square images that the classifier takes, in pixels.
      max_accuracy_drop: the part of all test images that may be lost, 0.01 for 1 %.

    Raises:
      ValueError: the data is gone, or the accuracy falls by more than that.
    """
    if data_dir is None:
        raise ValueError(
            f"{precision} needs the prepared data of the run, to measure the accuracy, "
            f"and it is gone. Received: --precision={precision}; bring the data back "
            "or export with --precision=float32."
        )
    folded = fold_batch_norm(trained.backbone, precision=precision)
    lowered = with_backbone(trained, folded.model)
    measured = _measure_accuracy(trained, lowered, data_dir, image_size=image_size)
    drop = measured["float32"] - measured["served"]
    print(
        f"accuracy on {measured['count']} test images: {measured['float32']:.4f} "
        f"in float32, {measured['served']:.4f} in {precision} ({-drop:+.4f}; one "
        f"image is {1 / measured['count']:.4f})"
    )
    if drop > max_accuracy_drop:
        raise ValueError(
            f"{precision} lowers the test accuracy by {drop:.4f}, more than allowed. "
            f"Received: --precision={precision} "
            f"--max_accuracy_drop={max_accuracy_drop:g}; export with "
            "--precision=float32 or allow more."
        )
    return lowered, measured


def _measure_accuracy(
    trained: Classifier, lowered: Classifier, data_dir: str, *, image_size: int
) -> MeasuredAccuracy:
    """Evaluates both classifiers on the test split, in one pass over the images."""
    batches = make_eval_dataset(
        prepared_data.read_records(data_dir, "test"),
        image_size=image_size,
        batch_size=_BATCH_SIZE,
    )

    @tf.function(autograph=False)
    def count_correct(batch: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        weights = tf.cast(batch["weight"], tf.float32)
        labels = tf.cast(batch["label"], tf.int32)
        counts = [tf.reduce_sum(weights)]
        for classifier in (trained, lowered):
            logits = compute_logits(classifier, batch["image"])
            is_correct = tf.argmax(logits, axis=1, output_type="int32") == labels
            counts.append(tf.reduce_sum(tf.cast(is_correct, tf.float32) * weights))
        return counts

    image_count, correct_in_float32, correct_as_served = 0.0, 0.0, 0.0
    for batch in batches:
        counts = [float(count) for count in count_correct(batch)]
        image_count += counts[0]
        correct_in_float32 += counts[1]
        correct_as_served += counts[2]
    return {
        "float32": correct_in_float32 / image_count,
        "served": correct_as_served / image_count,
        "count": int(image_count),
    }
