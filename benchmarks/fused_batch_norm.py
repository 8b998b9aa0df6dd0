"""How fast a finetune step is with batch norm in its convolutions.

`python benchmarks/fused_batch_norm.py`. Both contestants compute the gradients of the
layers behind the frozen prefix for one batch of 32 of its outputs, with stored
statistics, in one process and by turns:

- layers: Keras' own layers, a convolution and then its batch norm.
- fused: trainer/models/batch_norm_fusion.py.

Weights are random, which changes no time.
"""

import statistics
import time

import keras
import tables
import tensorflow as tf

from trainer.models import freezing
from trainer.models.backbones import build_backbone
from trainer.models.batch_norm_fusion import fuse_batch_norm
from trainer.models.boundary import choose_boundary
from trainer.models.classifier import dtype_policy

BATCH_SIZE = 32
TURNS = 15
BACKBONES = {
    "MobileNet 0.25": ("MobileNet", {"alpha": 0.25}),
    "ResNet50": ("ResNet50", {}),
}


def make_step(model, variables):
    """Returns step(features), which waits for the gradients."""

    @tf.function(autograph=False)
    def compute(features):
        with tf.GradientTape() as tape:
            outputs = tf.cast(model(features, training=False), tf.float32)
            loss = tf.reduce_mean(outputs**2)
        return tape.gradient(loss, variables)

    return lambda features: compute(features)[-1].numpy()


def compare(backbone_name, arguments, policy):
    """Returns the seconds of each turn, by contestant."""
    with dtype_policy(policy):
        backbone = build_backbone(backbone_name, arguments, image_size=224)
        frozen = choose_boundary(backbone)
        freezing.freeze(backbone, frozen)
        boundary = backbone.layers[frozen - 1].output
        suffix = keras.Model(boundary, backbone.output)
        fused = fuse_batch_norm(suffix)
    variables = [variable.value for variable in suffix.trainable_variables]
    steps = {
        "layers": make_step(suffix, variables),
        "fused": make_step(fused, variables),
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
    for name, (backbone_name, arguments) in BACKBONES.items():
        for policy in ("float32", "mixed_bfloat16"):
            seconds = compare(backbone_name, arguments, policy)
            pairs = zip(seconds["layers"], seconds["fused"], strict=True)
            ratios = sorted(layers / fused for layers, fused in pairs)
            lowest, _, highest = statistics.quantiles(ratios, n=4)
            rows.append(
                [
                    name,
                    policy,
                    *(f"{1000 * statistics.median(s):.0f}" for s in seconds.values()),
                    f"{statistics.median(ratios):.2f} [{lowest:.2f}, {highest:.2f}]",
                ]
            )
            samples[f"{name}, {policy}"] = seconds
    tables.save(
        "fused_batch_norm",
        about=(
            f"Gradients of a batch of {BATCH_SIZE}, medians of {TURNS} turns; in "
            "brackets the quartiles of the ratios within a turn."
        ),
        header=header,
        columns=["backbone", "precision", "layers, ms", "fused, ms", "times as fast"],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    main()
