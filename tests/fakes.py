"""The only shared test code: real small photographs on disk and a tiny backbone."""

import functools
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image, ImageDraw

REPOSITORY = pathlib.Path(__file__).parent.parent
CLASSES = ("circle", "square", "stripe")

# With it, seed 1 gives every class to every split from 25 images a class on.
_SALT = 2

# The smallest real backbone: 0.2 million parameters, 86 layers.
TINY_MODEL_FLAGS = (
    "--backbone=MobileNet",
    "--backbone_args=alpha=0.25",
    "--weights=random",
    "--image_size=32",
    "--batch_size=8",
    "--head_units=16",
    "--precision=float32",
)


def draw(label: str, index: int) -> Image.Image:
    """A shape of random place and colour on noise; differs with each index."""
    rng = np.random.default_rng([CLASSES.index(label), index, _SALT])
    width, height = (int(side) for side in rng.integers(40, 64, 2))
    noise = rng.integers(0, 90, (height, width, 3))
    image = Image.fromarray(noise.astype(np.uint8))
    pencil = ImageDraw.Draw(image)
    colour = tuple(int(channel) for channel in rng.integers(120, 255, 3))
    x, y = (int(offset) for offset in rng.integers(2, 15, 2))
    box = (x, y, x + 24, y + 24)
    if label == "circle":
        pencil.ellipse(box, fill=colour)
    elif label == "square":
        pencil.rectangle(box, fill=colour)
    else:
        ends = [int(end) for end in rng.integers(0, 40, 4)]
        pencil.line(ends, fill=colour, width=5)
    return image


def write_folder(folder: pathlib.Path, *, per_class: int = 20) -> pathlib.Path:
    """Writes one folder of JPEG files a class."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            path = folder / label / f"{index:02d}.jpg"
            draw(label, index).save(path, quality=90)
    return folder


@functools.cache
def one_device_runtime():
    """The process's one strategy; other strategies are tested in a subprocess."""
    from trainer import runtime

    return runtime.set_up(
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

    from trainer import model

    keras.utils.set_random_seed(5)
    backbone = model.build_backbone("MobileNet", {"alpha": 0.25}, image_size=32)
    classifier = model.build_classifier(
        backbone,
        "MobileNet",
        num_classes=len(CLASSES),
        pooling="avg",
        head_units=16,
        dropout=0.0,
    )
    drawn = [
        np.asarray(draw(label, index).resize((32, 32)))
        for label in CLASSES
        for index in range(16)
    ]
    model.calibrate_batch_norm(classifier, tf.constant(np.stack(drawn), tf.float32))
    return classifier


def mean_loss_and_accuracy(updates, count: int) -> tuple[float, float]:
    """Of one epoch's updates by loop.train_epoch."""
    updates = list(updates)
    loss = sum(sum(update.losses) for update in updates)
    return loss / count, sum(sum(update.corrects) for update in updates) / count


def run(*arguments: str, timeout_seconds: float = 300) -> subprocess.CompletedProcess:
    """Runs a Python command line in the repository, as a user would."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
