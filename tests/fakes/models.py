"""Builds and trains the smallest real classifier."""

import functools

import numpy as np

from fakes.images import CLASSES, draw

# The smallest real backbone: 0.2 million parameters, 86 layers.
TINY_MODEL_FLAGS = (
    "--recipe=notebook",
    "--backbone=MobileNet",
    "--backbone_args=alpha=0.25",
    "--weights=random",
    "--image_size=32",
    "--batch_size=8",
    "--head_units=16",
    "--precision=float32",
)


@functools.cache
def one_device_runtime():
    """The process's one strategy; other strategies are tested in a subprocess."""
    from trainer.distribution.runtime import set_up_runtime

    return set_up_runtime(
        strategy="one_device",
        precision="float32",
        virtual_devices=1,
        batch_size=8,
        seed=1,
    )


def make_classifier():
    """The tiny model, always the same, with features of a sensible scale.

    Untrained batch norm would let every feature vanish and hide what a test looks for,
    so its statistics are taken from photographs.
    """
    import keras
    import tensorflow as tf

    from trainer.config.head_config import HeadConfig
    from trainer.models import backbones, freezing
    from trainer.models.classifier import build_classifier

    keras.utils.set_random_seed(5)
    backbone = backbones.build_backbone("MobileNet", {"alpha": 0.25}, image_size=32)
    classifier = build_classifier(
        backbone,
        "MobileNet",
        num_classes=len(CLASSES),
        head=HeadConfig("avg", units=16, dropout=0.0),
    )
    drawn = [
        np.asarray(draw(label, index).resize((32, 32)))
        for label in CLASSES
        for index in range(16)
    ]
    freezing.calibrate_batch_norm(classifier, tf.constant(np.stack(drawn), tf.float32))
    return classifier


def train(run, train_steps, records, *, epochs: int, seed: int, **sizes: int) -> list:
    """Each epoch's mean loss and accuracy."""
    from pipeline.loading.order import num_batches
    from trainer.training import loop

    batches = loop.start_reading(run, records, epoch=1, seed=seed, **sizes)
    steps = num_batches(records.count, sizes["batch_size"])
    found = []
    for epoch in range(1, epochs + 1):
        updates = list(
            loop.train_epoch(train_steps, batches, steps=steps, epoch=epoch, seed=seed)
        )
        loss = sum(sum(update.losses) for update in updates)
        correct = sum(sum(update.corrects) for update in updates)
        found.append((loss / records.count, correct / records.count))
    return found
