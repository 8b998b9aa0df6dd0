"""What is the same in every epoch, computed once and kept: cache_features()."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipeline.augmentation import counter_rng
from pipeline.augmentation.augmenter import build_augmenter
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate
from trainer.models.batch_norm_folding import build_prefix
from trainer.models.classifier import Classifier, FrozenPrefix


@dataclasses.dataclass(frozen=True)
class View:
    """One look at every image of a split.

    augment: preset; "none" for the image as it is.
    seed: of the augmentation; with an image's position it decides its randomness, so
      that it is the one which the epoch of that seed would have drawn.
    xla: compile the augmentation.
    """

    augment: str = "none"
    seed: int = 0
    xla: bool = True


@dataclasses.dataclass(frozen=True)
class PrefixExtractor:
    """What takes images across frozen_prefixes of one classifier, whose weights stay.

    folded: with batch norm in the convolutions, which is quicker and rounds otherwise.
    """

    runtime: Runtime
    classifier: Classifier
    frozen_prefixes: Sequence[FrozenPrefix]
    folded: bool

    @functools.cached_property
    def digests(self) -> list[str]:
        """Of all that each frozen_prefix's prefix is."""
        return [_digest_prefix(frozen_prefix) for frozen_prefix in self.frozen_prefixes]

    @functools.cached_property
    def step(self) -> Callable:
        """For evaluation.map_examples; traced once for all splits and views."""
        with self.runtime.strategy.scope():
            prefix = build_prefix(
                self.frozen_prefixes,
                folded=self.folded,
                precision=self.runtime.precision,
            )

        def cross(batch):
            return prefix(self.classifier.normalise(batch["image"]))

        return make_step(self.runtime, cross)


def digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _digest_prefix(frozen_prefix: FrozenPrefix) -> str:
    weights = hashlib.sha256()
    for weight in frozen_prefix.prefix.weights:
        weights.update(np.ascontiguousarray(weight.numpy()).tobytes())
    layers = [
        [type(layer).__name__, layer.name] for layer in frozen_prefix.prefix.layers[1:]
    ]
    shapes = [list(weight.shape) for weight in frozen_prefix.prefix.weights]
    return digest(frozen_prefix.name, layers, shapes, weights.hexdigest())


def augment_and_extract(
    change: Callable, seed: tf.Tensor, cross: Callable, batch: dict
) -> tuple:
    return cross(change(batch, seed))


def make_augmenting_step(runtime: Runtime, preset: str, xla: bool) -> Callable:
    """(batch, seed) -> the batch as views of this preset show it."""
    augmenter = build_augmenter(preset, xla=xla)

    def change(batch, seed):
        seeds = counter_rng.row_seeds(seed, batch["position"])
        return {**batch, "image": augmenter(batch["image"], seeds)}

    @tf.function
    def changing_step(batch, seed):
        return runtime.strategy.run(change, args=(batch, seed))

    return changing_step


def make_step(runtime: Runtime, compute: Callable) -> Callable:
    """A step for evaluation.map_examples: outputs, positions and labels of a batch."""

    def replica_step(batch):
        batch = evaluate.drop_padding(runtime, batch)
        rest = (batch["position"], batch["label"], batch["weight"])
        return (*compute(batch), *rest)

    @tf.function
    def step(batch):
        return runtime.strategy.run(replica_step, args=(batch,))

    return step
