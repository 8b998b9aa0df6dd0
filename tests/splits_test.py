import collections

import pytest

from pipeline import splits

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


def test_a_class_that_a_split_lacks_is_named():
    labels = {"1": "rose", "2": "rose", "3": "rose", "4": "tulip"}
    made = {"1": "train", "2": "validation", "3": "test", "4": "train"}
    with pytest.raises(ValueError, match="validation has no 'tulip'") as error:
        splits.check_every_class_in_every_split(labels, made)
    assert "test has no 'tulip' (1 usable images in all)" in str(error.value)
    assert "rose" not in str(error.value)
    splits.check_every_class_in_every_split(
        dict.fromkeys("123", "rose"), {k: made[k] for k in "123"}
    )
