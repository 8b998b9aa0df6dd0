"""Tests that two and four replicas train as one does."""

import json

import fakes
import numpy as np
import pytest

# (precision, whether batch norm trains), and the replicas that are compared with one.
TRAINED_BATCH_NORM = ("float32", True)
HALF_PRECISION = ("mixed_float16", False)
CASES = {TRAINED_BATCH_NORM: 4, HALF_PRECISION: 2}

# One process for each number of replicas, because a process has one strategy.
_SCRIPT = """
import dataclasses, json, sys
sys.path.insert(0, "tests")
import fakes
import tensorflow as tf
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.loading import prepared_data
from trainer.distribution.runtime import set_up_runtime
from trainer.evaluation import evaluate
from trainer.models import freezing
from trainer.models.classifier import dtype_policy
from trainer.training.optimizer import make_optimizer
from trainer.training.step import make_train_steps

replicas, data_dir, cases = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
base = set_up_runtime(
    strategy="auto", precision="float32", virtual_devices=replicas, batch_size=8, seed=1
)
assert base.strategy.num_replicas_in_sync == replicas
train = prepared_data.read_records(data_dir, "train")
test = prepared_data.read_records(data_dir, "test")
sizes = {"image_size": 32, "batch_size": 8}
basic = build_augmenter("basic")

def run_case(precision, train_batch_norm):
    runtime = dataclasses.replace(base, precision=precision)
    with runtime.strategy.scope(), dtype_policy(precision):
        classifier = fakes.make_classifier("ShallowNet")
    # Half precision is compared where training is stable: rounding grows elsewhere.
    freezing.freeze(classifier.backbone, 9 if precision == "float32" else 19)
    freezing.synchronise_batch_norm(
        classifier.backbone, train_batch_norm and replicas > 1
    )
    # Larger steps magnify rounding step by step in so small a network.
    optimizer = make_optimizer(
        runtime,
        classifier,
        learning_rate=0.0001,
        momentum=0.9,
        schedule="inverse_time",
        total_steps=100,
    )
    train_steps = make_train_steps(
        runtime,
        classifier,
        optimizer,
        build_augmenter("none"),
        train_batch_norm=train_batch_norm,
        # The weights of a batch add up over the replicas.
        class_weights=(0.5, 1.0, 3.0),
    )
    trained = fakes.train(runtime, train_steps, train, epochs=3, seed=1, **sizes)
    eval_step = evaluate.make_eval_step(runtime, classifier)
    logits, _ = evaluate.evaluate(runtime, eval_step, test, **sizes)
    result = {
        "losses": [loss for loss, _ in trained],
        "logits": logits.tolist(),
        "count": train.count,
    }
    if not train_batch_norm:
        return result
    # The pixels are augmented in float32 in any case, so one case is enough.
    seeds = []

    def record_seeds(images, rows):
        tf.numpy_function(lambda rows: seeds.extend(rows.tolist()), [rows], [])
        return basic(images, rows)

    train_steps = make_train_steps(
        runtime, classifier, optimizer, record_seeds, train_batch_norm=False
    )
    augmented = fakes.train(runtime, train_steps, train, epochs=2, seed=1, **sizes)
    return result | {"seeds": seeds, "augmented": [loss for loss, _ in augmented]}

print(json.dumps([run_case(*case) for case in cases]))
"""


@pytest.fixture(scope="module")
def results(data_dir):
    """(Number of replicas, case) -> the result."""
    cases = {1: list(CASES)}
    for case, replicas in CASES.items():
        cases.setdefault(replicas, []).append(case)
    results = {}
    for replicas, chosen in cases.items():
        flags = (str(replicas), data_dir, json.dumps(chosen))
        done = fakes.run_fork("-c", _SCRIPT, *flags)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        for case, result in zip(chosen, found, strict=True):
            results[replicas, case] = result
    return results


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_and_four_replicas_give_the_losses_of_one(results, case):
    tolerance = 1e-4 if case == TRAINED_BATCH_NORM else 2e-2
    alone, spread = results[1, case], results[CASES[case], case]
    np.testing.assert_allclose(spread["losses"], alone["losses"], rtol=tolerance)
    np.testing.assert_allclose(
        spread["logits"], alone["logits"], atol=10 * tolerance, rtol=1e-7
    )


@pytest.mark.slow
def test_the_augmentation_of_an_image_does_not_depend_on_its_replica(results):
    alone = results[1, TRAINED_BATCH_NORM]
    for result in (alone, results[4, TRAINED_BATCH_NORM]):
        # Each image draws its own randomness in each of the two epochs, and the padding
        # of a last batch draws that of the image it repeats.
        seeds = [tuple(seed) for seed in result["seeds"]]
        assert len(seeds) == 2 * 10 * 8
        assert len(set(seeds)) == 2 * result["count"]
        # Other images in each epoch magnify rounding more; another augmentation of
        # one image would change a loss by a hundred times as much.
        np.testing.assert_allclose(result["augmented"], alone["augmented"], rtol=1e-3)
