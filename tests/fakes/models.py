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


def make_classifier(name: str = "MobileNet"):
    """The tiny model, always the same, with features of a sensible scale.

    name: of its backbone, MobileNet with alpha=0.25 or ShallowNet; see shallow_net.py.

    Untrained batch norm would let every feature vanish and hide what a test looks for,
    so its statistics are taken from photographs.
    """
    import keras
    import tensorflow as tf

    from trainer.config.head_config import HeadConfig
    from trainer.models import backbones, freezing
    from trainer.models.classifier import build_classifier

    keras.utils.set_random_seed(5)
    arguments = {"alpha": 0.25} if name == "MobileNet" else {}
    backbone = backbones.build_backbone(name, arguments, image_size=32)
    classifier = build_classifier(
        backbone,
        name,
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


@functools.cache
def _build_once():
    with one_device_runtime().strategy.scope():
        classifier = make_classifier()
    return classifier, [weight.numpy() for weight in classifier.model.weights]


def restore_classifier():
    """The tiny model, built once a process: its weights are the first ones again.

    No layer is frozen. A test that needs two models, or keeps one for other tests,
    takes make_classifier.
    """
    from trainer.models import freezing

    classifier, weights = _build_once()
    for variable, weight in zip(classifier.model.weights, weights, strict=True):
        variable.assign(weight)
    freezing.freeze(classifier.backbone, 0)
    return classifier


def make_postprocessing(classifier, images):
    """Constants of replies that call about half of some images unknown.

    images: encoded images.
    """
    import tensorflow as tf

    from pipeline import decoding
    from trainer.models.classifier import compute_embedding, compute_head
    from trainer.postprocessing import postprocessing, unknown

    side = classifier.backbone.input.shape[1]
    pixels = [decoding.decode_and_resize(tf.constant(each), side) for each in images]
    embeddings = compute_embedding(classifier, tf.stack(pixels))
    logits = compute_head(classifier, embeddings).numpy()
    scorer = unknown.fit_scorer(embeddings.numpy(), logits)
    scores = unknown.compute_unknown_score(scorer, embeddings, logits).numpy()
    return postprocessing.Postprocessing(
        temperature=0.8,
        coverage=0.9,
        min_set_probability=1 / len(CLASSES),
        scorer=scorer,
        unknown_rate=0.5,
        unknown_threshold=float(np.mean(scores)),
        val_count=len(images),
    )


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
