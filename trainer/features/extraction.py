"""Runs images, as they are or augmented, through the frozen layers of a classifier."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.augmentation import counter_rng
from pipeline.augmentation.augmenter import build_augmenter
from trainer.distribution.runtime import Runtime
from trainer.evaluation import evaluate
from trainer.models.batch_norm_folding import build_prefix
from trainer.models.classifier import Classifier, FrozenPrefix

# A function of one global batch; see evaluate.map_examples.
Step = Callable[[dict[str, Any]], tuple]


@dataclasses.dataclass(frozen=True)
class View:
    """One augmentation of every image of a split.

    augment: the preset; "none" leaves the images as they are.
    seed: seed of the augmentation. Together with the position of an image it decides
      the random numbers, so a view equals what the epoch with this seed would draw.
    xla: compile the augmentation with XLA.
    """

    augment: str = "none"
    seed: int = 0
    xla: bool = True


@dataclasses.dataclass(frozen=True)
class PrefixExtractor:
    """Runs images through the frozen prefixes of one classifier.

    The weights of the prefixes must not change while this object is in use.

    folded: fold batch norm into the convolutions, which is faster and rounds otherwise.
    """

    runtime: Runtime
    classifier: Classifier
    frozen_prefixes: Sequence[FrozenPrefix]
    folded: bool

    @functools.cached_property
    def digests(self) -> list[str]:
        """One hash per prefix: of its layer names, weight shapes and weight values."""
        return [_hash_prefix(frozen_prefix) for frozen_prefix in self.frozen_prefixes]

    @functools.cached_property
    def step(self) -> Step:
        """The step that extracts features, traced once for all splits and views."""
        with self.runtime.strategy.scope():
            prefix = build_prefix(
                self.frozen_prefixes,
                folded=self.folded,
                precision=self.runtime.precision,
            )

        def extract(batch):
            return prefix(self.classifier.normalise(batch["image"]))

        return make_step(self.runtime, extract)

    def make_view_step(self, view: View) -> Step:
        """Builds the step that augments a batch as in `view` and extracts features."""
        augmenting_step = _make_augmenting_step(self.runtime, view.augment, view.xla)
        seed = tf.constant([view.seed, 0])
        return lambda batch: self.step(augmenting_step(batch, seed))


def hash_parts(*parts: object) -> str:
    """Hashes values that JSON can hold; equal values give equal hashes everywhere."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _hash_prefix(frozen_prefix: FrozenPrefix) -> str:
    weights = hashlib.sha256()
    for weight in frozen_prefix.prefix.weights:
        weights.update(np.ascontiguousarray(weight.numpy()).tobytes())
    layers = [
        [type(layer).__name__, layer.name] for layer in frozen_prefix.prefix.layers[1:]
    ]
    shapes = [list(weight.shape) for weight in frozen_prefix.prefix.weights]
    return hash_parts(frozen_prefix.name, layers, shapes, weights.hexdigest())


@functools.cache
def _make_augmenting_step(runtime: Runtime, preset: str, xla: bool) -> Callable:
    """Builds augment(batch, seed) -> batch; traced once for all views of a preset."""
    augmenter = build_augmenter(preset, xla=xla)

    def augment_replica(batch, seed):
        seeds = counter_rng.row_seeds(seed, batch["position"])
        return {**batch, "image": augmenter(batch["image"], seeds)}

    @tf.function(autograph=False)
    def augment(batch, seed):
        return runtime.strategy.run(augment_replica, args=(batch, seed))

    return augment


def make_step(
    runtime: Runtime, compute: Callable[[dict[str, Any]], Sequence[tf.Tensor]]
) -> Step:
    """Builds step(batch) -> (*outputs, positions, labels, weights), each per replica.

    compute: one replica's batch -> its outputs.
    """

    def replica_step(batch):
        batch = evaluate.drop_padding(runtime, batch)
        outputs = compute(batch)
        return (*outputs, batch["position"], batch["label"], batch["weight"])

    @tf.function(autograph=False)
    def step(batch):
        return runtime.strategy.run(replica_step, args=(batch,))

    return step
