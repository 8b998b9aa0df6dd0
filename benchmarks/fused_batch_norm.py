"""How much faster a finetune step is with fused batch norm.

`python benchmarks/fused_batch_norm.py`. Both contestants compute the gradients of the
layers behind the frozen prefix for one batch of 32 of its outputs, in one process and
by turns, with the stored statistics (the default) and with those of the batch (the
recipe "notebook"):

- layers: Keras' own layers.
- fused: trainer/models/batch_norm_fusion.py.

Weights are random, which changes no time.
"""

import itertools
import statistics
import time

import keras
import tables
import tensorflow as tf

from trainer.models import freezing
from trainer.models.backbones import build_backbone
from trainer.models.batch_norm_fusion import (
    fuse_batch_statistics,
    fuse_stored_statistics,
)
from trainer.models.boundary import choose_boundary
from trainer.models.classifier import dtype_policy

BATCH_SIZE = 32
TURNS = 15
BACKBONES = {
    "MobileNet 0.25": ("MobileNet", {"alpha": 0.25}),
    "ResNet50": ("ResNet50", {}),
}


def make_step(model, variables, train_batch_norm):
    """Returns step(features), which waits for the gradients."""

    @tf.function(autograph=False)
    def compute(features):
        with tf.GradientTape() as tape:
            outputs = tf.cast(model(features, training=train_batch_norm), tf.float32)
            loss = tf.reduce_mean(outputs**2)
        return tape.gradient(loss, variables)

    return lambda features: compute(features)[-1].numpy()


def compare(backbone_name, arguments, policy, train_batch_norm):
    """Returns the seconds of each turn, by contestant."""
    with dtype_policy(policy):
        backbone = build_backbone(backbone_name, arguments, image_size=224)
        frozen = choose_boundary(backbone)
        freezing.freeze(backbone, frozen)
        boundary = backbone.layers[frozen - 1].output
        suffix = keras.Model(boundary, backbone.output)
        fuse = fuse_batch_statistics if train_batch_norm else fuse_stored_statistics
        models = {"layers": suffix, "fused": fuse(suffix)}
    variables = [variable.value for variable in suffix.trainable_variables]
    steps = {
        name: make_step(model, variables, train_batch_norm)
        for name, model in models.items()
    }
    features = tf.random.normal((BATCH_SIZE, *boundary.shape[1:]), seed=1)
    features = tf.cast(features, boundary.dtype)
    for step in steps.values():
        step(features)
    seconds = {name: [] for name in steps}
    for turn in range(TURNS):
        for name in sorted(steps, reverse=turn % 2 == 0):
            start = time.monotonic()
            steps[name](features)
            seconds[name].append(time.monotonic() - start)
    return seconds


def main():
    header = tables.describe_machine()
    rows, samples = [], {}
    cases = itertools.product(
        BACKBONES.items(), ("float32", "mixed_bfloat16"), (False, True)
    )
    for (name, backbone), policy, train_batch_norm in cases:
        seconds = compare(*backbone, policy, train_batch_norm)
        pairs = zip(seconds["layers"], seconds["fused"], strict=True)
        ratios = [layers / fused for layers, fused in pairs]
        lowest, _, highest = statistics.quantiles(ratios, n=4)
        statistics_of = "the batch" if train_batch_norm else "stored"
        rows.append(
            [
                name,
                policy,
                statistics_of,
                *(f"{1000 * statistics.median(s):.0f}" for s in seconds.values()),
                f"{statistics.median(ratios):.2f} [{lowest:.2f}, {highest:.2f}]",
            ]
        )
        samples[f"{name}, {policy}, {statistics_of}"] = seconds
    tables.save(
        "fused_batch_norm",
        about=(
            f"Gradients of a batch of {BATCH_SIZE}, medians of {TURNS} turns; in "
            "brackets the quartiles of the ratios within a turn."
        ),
        header=header,
        columns=[
            *("backbone", "precision", "statistics"),
            *("layers, ms", "fused, ms", "times as fast"),
        ],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    main()
