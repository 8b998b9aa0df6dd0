"""Tests that a slice is marked if it is worse, and hardly ever by chance."""

import numpy as np
import pytest
from scipy import stats

from trainer.evaluation import metrics
from trainer.evaluation.image_properties import ImageProperties
from trainer.evaluation.slices import (
    Selection,
    compare_slices,
    describe_worst,
    select_slices,
)

COUNT = 200


def _draw_photographs(seed=0):
    """Properties, centres of heat and labels of photographs of two classes."""
    rng = np.random.default_rng(seed)
    properties = ImageProperties(
        brightness=rng.permutation(COUNT).astype(float),
        sharpness=rng.random(COUNT),
        saturation=rng.random(COUNT),
        colour=rng.choice(["green", "red"], COUNT),
        width=rng.integers(200, 500, COUNT),
        height=rng.integers(200, 500, COUNT),
    )
    return properties, rng.uniform(-1, 1, (COUNT, 2)), np.arange(COUNT) % 2


def _find(slices, name):
    [found] = [each for each in slices if each["name"] == name]
    return found


def test_a_slice_that_is_worse_is_marked_and_described():
    properties, centres, labels = _draw_photographs()
    is_correct = np.random.default_rng(1).random(COUNT) < 0.95
    dark = properties.brightness < 40
    is_correct[dark] = np.arange(40) % 2 == 0
    slices = compare_slices(
        select_slices(properties, centres, labels, ("daisy", "rose")), is_correct
    )
    assert [each["name"] for each in slices if each["is_worse"]] == ["dark"]
    worst = slices[0]
    assert worst["meaning"] == "mean brightness below 39.8 of 255"
    assert (worst["accuracy"], worst["count"], worst["rest_count"]) == (0.5, 40, 160)
    assert worst["ci95"] == list(metrics.confidence_interval(20, 40))
    assert worst["rest_accuracy"] == is_correct[~dark].mean()
    right = int(is_correct[~dark].sum())
    table = [[20, 20], [right, 160 - right]]
    assert worst["p_value"] == pytest.approx(
        stats.hypergeom.cdf(20, COUNT, 20 + right, 40)
    )
    assert worst["p_value"] == stats.fisher_exact(table, "less").pvalue
    assert describe_worst(slices) == (
        "The model fails more often on 'dark' (mean brightness below 39.8 of 255): "
        "50.0% of 40 are right (95 % interval: 35.2% to 64.8%), of the other 160 "
        f"{right / 160:.1%}. 1 of {len(slices)} slices are worse beyond chance."
    )


def test_p_values_are_corrected_for_the_number_of_slices():
    rng = np.random.default_rng(2)
    is_correct = np.arange(100) >= 30
    selections = [
        Selection("p", str(index), "m", rng.random(100) < 0.3) for index in range(9)
    ]
    selections.append(Selection("p", "bad", "m", np.arange(100) < 20))
    slices = compare_slices(selections, is_correct)
    p_values = np.array([each["p_value"] for each in slices])
    assert (np.diff(p_values) >= 0).all()
    assert slices[0]["name"] == "bad"
    # Benjamini and Hochberg: the smallest of p * 10 / rank of all larger ones.
    scaled = p_values * 10 / np.arange(1, 11)
    expected = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    found = [each["adjusted_p_value"] for each in slices]
    assert found == pytest.approx(expected)


def test_random_slices_are_marked_in_few_runs():
    rng = np.random.default_rng(3)
    num_runs, num_marked = 200, 0
    for _ in range(num_runs):
        is_correct = rng.random(105) < 0.85
        selections = [
            Selection("p", "n", "m", rng.random(105) < 0.2) for _ in range(20)
        ]
        slices = compare_slices(selections, is_correct)
        num_marked += any(each["is_worse"] for each in slices)
    assert num_marked <= 0.05 * num_runs


def test_every_property_has_its_slices_with_a_fifth_of_the_photographs():
    properties, centres, labels = _draw_photographs(4)
    slices = compare_slices(
        select_slices(properties, centres, labels, ("daisy", "rose")),
        np.arange(COUNT) % 3 > 0,
    )
    assert {each["property"] for each in slices} == {
        *("brightness", "sharpness", "size", "aspect", "colour", "place", "class")
    }
    assert _find(slices, "vivid")["count"] == COUNT / 5
    assert _find(slices, "upright")["count"] == sum(
        properties.height > properties.width
    )
    assert _find(slices, "rose")["count"] == 100
    edge = _find(slices, "away from the middle")
    threshold = np.quantile(100 * np.abs(centres).max(axis=1), 0.8)
    assert edge["count"] == COUNT / 5
    assert f"the middle: above {threshold:.3g} % of the way" in edge["meaning"]
    threshold = np.quantile(np.minimum(properties.width, properties.height), 0.2)
    assert _find(slices, "small")["meaning"] == f"shorter side below {threshold:.0f} px"
    assert describe_worst(slices) is None


def test_equal_photographs_and_small_classes_have_no_slice():
    same = np.ones(COUNT)
    properties = ImageProperties(
        same, same, same, np.array(["grey"] * COUNT), 300 * same, 200 * same
    )
    labels = np.repeat([0, 1, 2], [COUNT - 9, 5, 4])
    slices = compare_slices(
        select_slices(properties, np.zeros((COUNT, 2)), labels, ("a", "b", "c")),
        labels == 0,
    )
    assert [(each["name"], each["count"]) for each in slices] == [("b", 5), ("a", 191)]
    assert compare_slices([], labels == 0) == []
