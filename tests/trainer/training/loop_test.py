"""Tests of the steps of an epoch: what is read when, and onto which device."""

import json
import threading

import fakes
import numpy as np
import pytest
import tensorflow as tf

from trainer.models import freezing
from trainer.training import loop
from trainer.training.optimizer import make_optimizer
from trainer.training.step import make_train_steps

STEPS = 5

_SCRIPT = """
import json, sys
sys.path.insert(0, "tests")
import fakes
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.loading import prepared_data
from trainer.distribution.runtime import set_up_runtime
from trainer.models import freezing
from trainer.training import loop
from trainer.training.optimizer import make_optimizer
from trainer.training.step import make_train_steps

runtime = set_up_runtime(
    strategy="auto", precision="float32", virtual_devices=3, batch_size=6, seed=1
)
records = prepared_data.read_records(sys.argv[1], "train")
with runtime.strategy.scope():
    classifier = fakes.make_classifier()
freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
optimizer = make_optimizer(runtime, classifier, learning_rate=0.01, momentum=0.0,
                           schedule="constant", total_steps=9)
train_steps = make_train_steps(runtime, classifier, optimizer,
                               build_augmenter("none"), train_batch_norm=False)
batches = loop.start_reading(
    runtime, records, image_size=32, batch_size=6, epoch=1, seed=1
)
updates = list(loop.train_epoch(train_steps, batches, steps=4, epoch=1, seed=1))
print(json.dumps([
    [part[name].backing_device[-5:] for name in ("image", "weight")]
    for part in batches.ready
]))
"""


def _make_steps(runtime, augment):
    with runtime.strategy.scope():
        classifier = fakes.make_classifier()
    freezing.freeze(classifier.backbone, len(classifier.backbone.layers))
    optimizer = make_optimizer(
        runtime,
        classifier,
        learning_rate=0.01,
        momentum=0.0,
        schedule="constant",
        total_steps=STEPS,
    )
    return make_train_steps(
        runtime, classifier, optimizer, augment, train_batch_norm=False
    )


def test_the_next_batch_is_read_while_a_step_computes():
    """Each step waits in its middle until the batch after its own has been read."""
    runtime = fakes.one_device_runtime()
    read, changed, computed = [], threading.Condition(), []

    def note_read(index):
        with changed:
            read.append(int(index))
            changed.notify_all()
        return np.float32(1)

    def wait_for_next(position):
        with changed:
            is_read = changed.wait_for(lambda: len(read) >= position + 2, timeout=10)
        computed.append((int(position), is_read))

    def augment(images, seeds):
        # The position of an image is the number of its batch.
        tf.numpy_function(wait_for_next, [tf.reduce_max(images)], [])
        return images

    def make_batch(index):
        weight = tf.ensure_shape(tf.numpy_function(note_read, [index], tf.float32), [])
        return {
            "image": tf.fill([2, 32, 32, 3], tf.cast(index, tf.float32)),
            "label": tf.zeros([2], tf.int32),
            "weight": tf.fill([2], weight),
            "position": tf.fill([2], tf.cast(index, tf.int32)),
        }

    options = tf.data.Options()
    options.autotune.enabled = False  # It would read ahead by itself.
    made = tf.data.Dataset.range(100).map(make_batch).with_options(options)
    batches = loop.BatchStream(runtime.strategy, made)
    train_steps = _make_steps(runtime, augment)
    updates = loop.train_epoch(train_steps, batches, steps=STEPS, epoch=1, seed=1)
    assert [update.done for update in updates][-1] == STEPS
    assert computed == [(step, True) for step in range(STEPS)]
    # Exactly one is read ahead, and it is the first one of what comes next.
    assert read == list(range(STEPS + 1))
    assert batches.ready[0]["position"].numpy().tolist() == [STEPS, STEPS]


@pytest.mark.slow
def test_each_part_of_a_batch_waits_on_the_device_of_its_replica(data_dir):
    done = fakes.run_fork("-c", _SCRIPT, data_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    devices = json.loads(done.stdout.splitlines()[-1])
    assert devices == [[f"CPU:{index}"] * 2 for index in range(3)]
