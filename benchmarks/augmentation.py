"""How fast a preset is, against Keras's and keras-cv's layers one after the other.

`python benchmarks/augmentation.py [REPEATS]`. Batches of 32 noisy images of 224 px on
the CPU; each contestant is one graph, and all are in one process, in turn. `ours` takes
a seed, so that it repeats; the layers draw from generators. The figures are medians, in
brackets the smallest and the largest; a ratio is taken within a turn, so that what else
the machine does falls on both sides. The Keras layers of a preset use its ranges;
keras-cv has no layer for NTSC's hue and uses HSV, as Keras does.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_cv
import numpy as np
import tables
import tensorflow as tf

from pipeline.augmentation import counter_rng
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.augmentation.presets import PRESETS

BATCH, SIDE = 32, 224
RANGE = (0, 255)
EDGES = {"fill_mode": "nearest"}


def keras_layers(preset):
    layers = keras.layers
    if preset == "basic":
        return [
            layers.RandomShear(x_factor=0.2, **EDGES),
            layers.RandomZoom(0.2, 0.2, **EDGES),
            layers.RandomFlip("horizontal"),
        ]
    if preset == "light":
        return [
            layers.RandomZoom(0.1, 0.1, **EDGES),
            layers.RandomRotation(5 / 360, **EDGES),
            layers.RandomTranslation(0.05, 0.05, **EDGES),
            layers.RandomFlip("horizontal"),
            layers.RandomContrast(0.1, value_range=RANGE),
            layers.RandomBrightness(0.05, value_range=RANGE),
        ]
    return [
        layers.RandomShear(x_factor=0.2, **EDGES),
        layers.RandomZoom(0.3, 0.3, **EDGES),
        layers.RandomRotation(20 / 360, **EDGES),
        layers.RandomTranslation(0.1, 0.1, **EDGES),
        layers.RandomFlip("horizontal"),
        layers.RandomContrast(0.4, value_range=RANGE),
        layers.RandomBrightness(0.15, value_range=RANGE),
        layers.RandomSaturation((0.375, 0.583), value_range=RANGE),
        layers.RandomHue(0.08, value_range=RANGE),
    ]


def keras_cv_layers(preset):
    layers = keras_cv.layers
    if preset == "basic":
        return [
            layers.RandomShear(x_factor=0.2, **EDGES),
            layers.RandomZoom(0.2, 0.2, **EDGES),
            layers.RandomFlip("horizontal"),
        ]
    if preset == "light":
        return [
            layers.RandomZoom(0.1, 0.1, **EDGES),
            layers.RandomRotation(5 / 360, **EDGES),
            layers.RandomTranslation(0.05, 0.05, **EDGES),
            layers.RandomFlip("horizontal"),
            layers.RandomContrast(RANGE, 0.1),
            layers.RandomBrightness((-0.05, 0.05), value_range=RANGE),
        ]
    return [
        layers.RandomShear(x_factor=0.2, **EDGES),
        layers.RandomZoom(0.3, 0.3, **EDGES),
        layers.RandomRotation(20 / 360, **EDGES),
        layers.RandomTranslation(0.1, 0.1, **EDGES),
        layers.RandomFlip("horizontal"),
        layers.RandomContrast(RANGE, 0.4),
        layers.RandomBrightness((-0.15, 0.15), value_range=RANGE),
        # Of 0.5 it leaves the saturation as it is, of x it multiplies by x / (1 - x).
        layers.RandomSaturation((0.375, 0.583)),
        layers.RandomHue(0.08, value_range=RANGE),
    ]


def in_a_row(layers):
    def apply(images, seed):
        del seed
        for layer in layers:
            images = layer(images, training=True) if _asks(layer) else layer(images)
        return images

    return tf.function(apply)


def _asks(layer):
    """Keras's layers augment in training alone, keras-cv's always."""
    return not type(layer).__module__.startswith("keras_cv")


def contestants(preset):
    return {
        "Keras": in_a_row(keras_layers(preset)),
        "keras-cv": in_a_row(keras_cv_layers(preset)),
        "ours": in_graph(preset, xla=True),
        "ours, no XLA": in_graph(preset, xla=False),
    }


def in_graph(preset, *, xla):
    change = build_augmenter(preset, xla=xla)

    def apply(images, seed):
        return change(images, counter_rng.row_seeds(seed, tf.range(BATCH)))

    return tf.function(apply)


def seconds(function, images, seed):
    start = time.perf_counter()
    result = function(images, seed)
    result[0, 0, 0, 0].numpy()
    return time.perf_counter() - start


def main(repeats):
    header = tables.describe_machine()
    generator = np.random.default_rng(1)
    noise = generator.uniform(0, 255, (BATCH, SIDE, SIDE, 3))
    images = tf.constant(noise, tf.float32)
    samples, rows = {}, []
    for preset in PRESETS:
        if preset == "none":
            continue
        functions = contestants(preset)
        times = {name: [] for name in functions}
        for turn in range(-2, repeats):
            for name, function in functions.items():
                taken = seconds(function, images, tf.constant([1, turn]))
                if turn >= 0:  # the first two trace, compile and warm up
                    times[name].append(taken)
        samples[preset] = times
        for name, taken in times.items():
            ratios = [a / b for a, b in zip(taken, times["ours"], strict=True)]
            rates = [BATCH / each for each in taken]
            rows.append(
                [preset, name, tables.spread(rates, 0), tables.spread(ratios, 1)]
            )
    tables.save(
        "augmentation",
        about=(
            f"Batches of {BATCH} at {SIDE} px on the CPU, {repeats} interleaved turns; "
            "median and in brackets smallest and largest, ratios within a turn."
        ),
        header=header,
        columns=["preset", "contestant", "images/s", "ours is faster by"],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
