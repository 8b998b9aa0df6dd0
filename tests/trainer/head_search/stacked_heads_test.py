"""Tests of heads trained side by side, against Keras."""

import dataclasses

import keras
import numpy as np

from pipeline.loading.order import mix_seed
from trainer.head_search.stacked_heads import HeadRecipe, _initialise, train_heads

COUNT, DIMENSIONS, CLASSES = 22, 7, 3


def _make_recipe(**changes):
    recipe = HeadRecipe(
        epochs=3, batch_size=8, schedule="constant", momentum=0.9, seed=4
    )
    return dataclasses.replace(recipe, **changes)


def _examples(seed, count=COUNT):
    """Clouds around one point a class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    points = np.random.default_rng(0).normal(size=(CLASSES, DIMENSIONS))
    rows = points[labels] + 0.4 * rng.normal(size=(count, DIMENSIONS))
    return rows.astype(np.float32), labels


def _train_heads(views, labels, evaluated, recipe, *, weights=None, **changes):
    options = {"rates": [0.1], "dropouts": [0.0], "units": 5} | changes
    heads = len(options["rates"])
    if weights is None:
        weights = np.ones((heads, len(labels)), np.float32)
    return train_heads(
        views,
        labels,
        evaluated,
        weights=weights,
        recipe=recipe,
        num_classes=CLASSES,
        **options,
    )


def _train_keras(views, labels, evaluated, recipe, *, rate):
    """One head by Keras's own layers and optimizer, on the same batches."""
    head = keras.Sequential(
        [keras.layers.Dense(5, activation="relu"), keras.layers.Dense(CLASSES)]
    )
    head.build((None, DIMENSIONS))
    for layer in head.layers:
        kernel = _initialise(layer.kernel.shape, 1, recipe.seed)
        layer.kernel.assign(kernel[0])
    head.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    found = []
    for epoch in range(recipe.epochs):
        seed = mix_seed(recipe.seed, epoch + 1)
        order = np.random.default_rng(seed).permutation(len(labels))
        for start in range(0, len(labels), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            head.train_on_batch(views[epoch % len(views)][rows], labels[rows])
        found.append(np.asarray(head(evaluated)))
    return np.stack(found)


def test_heads_side_by_side_are_what_keras_trains_one_by_one():
    recipe = _make_recipe()
    views = [_examples(seed)[0] for seed in (1, 2)]
    _, labels = _examples(1)
    evaluated, _ = _examples(3, count=10)
    rates = [0.02, 0.1]
    both = _train_heads(
        views, labels, evaluated, recipe, rates=rates, dropouts=[0.0, 0.0]
    )
    assert both.shape == (3, 2, 10, CLASSES)
    for index, rate in enumerate(rates):
        wanted = _train_keras(views, labels, evaluated, recipe, rate=rate)
        np.testing.assert_allclose(both[:, index], wanted, atol=2e-5)


def test_the_schedule_is_the_regimes():
    rows, labels = _examples(1)
    options = (_examples(3, count=10)[0],)
    constant = _train_heads([rows], labels, *options, _make_recipe(epochs=1))
    cosine = _train_heads(
        [rows], labels, *options, _make_recipe(epochs=1, schedule="cosine")
    )
    inverse_time = _train_heads(
        [rows], labels, *options, _make_recipe(epochs=1, schedule="inverse_time")
    )
    np.testing.assert_allclose(inverse_time, constant, atol=1e-4)
    assert np.abs(cosine - constant).max() > 1e-2


def test_a_weight_of_zero_leaves_an_example_out():
    recipe = _make_recipe(batch_size=64)
    rows, labels = _examples(1)
    evaluated, _ = _examples(3, count=10)
    weights = np.ones((1, COUNT), np.float32)
    weights[0, 5:] = 0
    masked = _train_heads([rows], labels, evaluated, recipe, weights=weights)
    alone = _train_heads([rows[:5]], labels[:5], evaluated, recipe)
    np.testing.assert_allclose(masked, alone, atol=1e-5)


def test_dropout_acts_in_training_alone():
    recipe = _make_recipe(epochs=1)
    rows, labels = _examples(1)
    evaluated, _ = _examples(3, count=10)
    options = {"rates": [0.1, 0.1, 1e-12], "dropouts": [0.0, 0.5, 0.5]}
    found = _train_heads([rows], labels, evaluated, recipe, **options)[0]
    assert np.abs(found[0] - found[1]).max() > 1e-2
    again = _train_heads([rows], labels, evaluated, recipe, **options)[0]
    np.testing.assert_array_equal(found, again)
    # A rate of next to nothing leaves the first weights, and those drop no unit.
    still = _train_heads([rows], labels, evaluated, recipe, rates=[1e-12])[0]
    np.testing.assert_allclose(found[2], still[0], atol=1e-6)
