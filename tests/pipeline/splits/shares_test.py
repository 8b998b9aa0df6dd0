import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.splits import shares

SHARES = (0.8, 0.1, 0.1)
SEVERAL_SHARES = st.sampled_from(
    [SHARES, (0.6, 0.2, 0.2), (0.7, 0.2, 0.1), (0.05, 0.9, 0.05), (0.25,) * 4]
)
# Of the keys "0" to "29", by their positions alone: (t)rain, (v)alidation or t(e)st.
EXPECTED = "tvttttttttttveevttvvttttttettt"


def _positions(count: int, seed: int = 1) -> list[float]:
    return [shares.find_position(str(number), seed) for number in range(count)]


def test_the_positions_are_a_pure_function_whose_values_are_fixed():
    # If these change, everybody's splits change: it must be on purpose.
    letters = ["t" if p < 0.8 else "v" if p < 0.9 else "e" for p in _positions(30)]
    assert "".join(letters) == EXPECTED


def test_a_large_class_is_cut_at_the_sums_of_the_shares():
    positions = _positions(3000)
    expected = [0 if p < 0.8 else 1 if p < 0.8 + 0.1 else 2 for p in positions]
    assert shares.cut(positions, SHARES) == expected


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        *((1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))),
        *((5, (3, 1, 1)), (10, (8, 1, 1)), (15, (12, 2, 1)), (20, (16, 2, 2))),
        *((34, (27, 4, 3)), (60, (48, 6, 6)), (80, (64, 8, 8)), (100, (80, 10, 10))),
    ],
)
def test_a_small_class_has_the_nearest_whole_numbers(count, sizes):
    parts = collections.Counter(shares.cut(_positions(count), SHARES))
    assert tuple(parts[part] for part in range(3)) == sizes


@given(
    weights=SEVERAL_SHARES,
    count=st.integers(4, 2000),
    seed=st.integers(0, 1000),
)
def test_no_part_is_empty_and_each_is_a_range_of_positions(weights, count, seed):
    positions = _positions(count, seed)
    parts = shares.cut(positions, weights)
    assert set(parts) == set(range(len(weights)))
    in_order = [part for _, part in sorted(zip(positions, parts, strict=True))]
    assert in_order == sorted(in_order)


@given(
    weights=SEVERAL_SHARES,
    count=st.integers(4, 1000),
    seed=st.integers(0, 1000),
    new=st.floats(0, 1, exclude_max=True),
)
def test_one_more_group_moves_at_most_one_over_each_cut(weights, count, seed, new):
    positions = _positions(count, seed)
    before = shares.cut(positions, weights)
    after = shares.cut([*positions, new], weights)[:-1]
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(moved) <= len(weights) - 1
    assert len({max(pair) for pair in moved}) == len(moved)
    assert all(abs(a - b) == 1 for a, b in moved)


@given(seed=st.integers(0, 10_000), new=st.floats(0, 1, exclude_max=True))
def test_one_more_group_in_a_large_class_moves_none(seed, new):
    positions = _positions(800, seed)
    before = shares.cut(positions, SHARES)
    assert shares.cut([*positions, new], SHARES)[:-1] == before


def test_another_seed_moves_groups():
    one, two = (shares.cut(_positions(1_000, seed), SHARES) for seed in (1, 2))
    moved = sum(a != b for a, b in zip(one, two, strict=True))
    assert 250 < moved < 430  # 1 - (0.64 + 0.01 + 0.01) of 1,000 expected


def test_groups_are_spread_evenly_over_folds_whatever_their_split():
    keys = [str(number) for number in range(4000)]
    folds = np.array([shares.fold_of(key, num_folds=4, seed=1) for key in keys])
    parts = np.array(shares.cut(_positions(4000), SHARES))
    for part in range(3):
        counts = np.bincount(folds[parts == part], minlength=4)
        np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.08)
