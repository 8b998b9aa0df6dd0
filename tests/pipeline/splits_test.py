import collections

import numpy as np
import pytest

from pipeline import splits
from pipeline.sources.images import SPLITS

SHARES = (0.8, 0.1, 0.1)
# Of the keys "0" to "29": (t)rain, (v)alidation or t(e)st.
EXPECTED = "tvttttttttttveevttvvttttttettt"


def test_the_split_is_a_pure_function_whose_values_are_fixed():
    # If these change, everybody's splits change: it must be on purpose.
    made = [splits.split_of(str(n), fractions=SHARES, seed=1) for n in range(30)]
    letters = {"train": "t", "validation": "v", "test": "e"}
    assert "".join(letters[split] for split in made) == EXPECTED


def test_the_shares_are_met_on_average():
    keys = [str(number) for number in range(20_000)]
    counts = collections.Counter(
        splits.split_of(key, fractions=SHARES, seed=5) for key in keys
    )
    # Standard deviation of the first is 57, of the others 42: four of them each way.
    assert abs(counts["train"] - 16_000) < 230
    assert abs(counts["validation"] - 2_000) < 170
    assert abs(counts["test"] - 2_000) < 170


def test_another_seed_moves_groups():
    keys = [str(number) for number in range(1_000)]
    moved = sum(
        splits.split_of(key, fractions=SHARES, seed=1)
        != splits.split_of(key, fractions=SHARES, seed=2)
        for key in keys
    )
    assert 250 < moved < 430  # 1 - (0.64 + 0.01 + 0.01) of 1,000 expected


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.2), (0.8, 0.2, 0.0), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)]
)
def test_fractions_that_cannot_be_used_are_quoted(fractions):
    received = ",".join(str(fraction) for fraction in fractions)
    with pytest.raises(ValueError, match=f"Received: --splits={received}"):
        splits.parse_fractions(fractions)


def test_a_class_that_a_split_lacks_is_found():
    labels = {"1": "rose", "2": "rose", "3": "rose", "4": "tulip"}
    made = {"1": "train", "2": "validation", "3": "test", "4": "train"}
    assert splits.missing_classes(labels, made) == [
        ("validation", "tulip"),
        ("test", "tulip"),
    ]
    del labels["4"]
    assert splits.missing_classes(labels, made) == []


def test_the_seed_that_is_found_gives_every_class_to_every_split():
    labels = {str(n): "ab"[n % 2] for n in range(20)}
    groups = {name: name for name in labels}
    seed = splits.find_seed(labels, groups, fractions=SHARES, seed=1)
    for candidate in range(2, seed + 1):
        made = {
            name: splits.split_of(name, fractions=SHARES, seed=candidate)
            for name in labels
        }
        assert bool(splits.missing_classes(labels, made)) == (candidate < seed)
    few = {"1": "a", "2": "b"}
    assert splits.find_seed(few, few, fractions=SHARES, seed=1) is None


def test_folds_part_the_groups_and_each_is_tested_on_once():
    keys = [str(number) for number in range(300)]
    tested = collections.Counter()
    for fold in range(5):
        made = [
            splits.split_in_fold(key, fold=fold, num_folds=5, seed=3) for key in keys
        ]
        tested.update(k for k, split in zip(keys, made, strict=True) if split == "test")
        assert 35 < made.count("test") < 90
        assert 35 < made.count("validation") < 90
    assert set(tested.values()) == {1}
    assert set(tested) == set(keys)


def test_groups_are_spread_evenly_over_folds_whatever_their_split():
    keys = [str(number) for number in range(4000)]
    folds = {key: splits.fold_of(key, num_folds=4, seed=1) for key in keys}
    for split in SPLITS:
        folds_in_split = [
            folds[key]
            for key in keys
            if splits.split_of(key, fractions=SHARES, seed=1) == split
        ]
        fractions = np.bincount(folds_in_split, minlength=4) / len(folds_in_split)
        np.testing.assert_allclose(fractions, 0.25, atol=0.08)
