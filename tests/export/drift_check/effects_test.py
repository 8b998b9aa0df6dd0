import numpy as np
import pytest

from export.drift_check import effects


def test_the_interval_of_a_difference_of_shares_is_that_of_the_literature():
    # Newcombe (1998), table II, example (a): 56 of 70 less 48 of 80.
    shift = effects.compare_shares("rose", (48, 80), (56, 70))
    assert shift["difference"] == pytest.approx(0.2)
    assert shift["ci95"] == pytest.approx([0.0524, 0.3339], abs=1e-4)
    assert (shift["reference"], shift["new"]) == (0.6, 0.8)
    assert shift["counts"] == [48, 56]


def test_shares_of_0_and_1_have_an_interval():
    shift = effects.compare_shares("rose", (0, 30), (20, 20))
    low, high = shift["ci95"]
    assert shift["difference"] == 1
    assert 0.7 < low < 1 <= high


def test_the_interval_of_a_difference_of_means_is_that_of_welch():
    reference, new = np.array([1.0, 2, 3, 4]), np.array([4.0, 6, 8])
    shift = effects.compare_means("confidence", reference, new)
    assert (shift["reference"], shift["new"], shift["difference"]) == (2.5, 6, 3.5)
    # By hand: variances 5/3 and 4, standard error sqrt(5/12 + 4/3) = 1.3229, 3.235
    # degrees of freedom, whose quantile of t is 3.056.
    assert shift["ci95"] == pytest.approx([3.5 - 4.042, 3.5 + 4.042], abs=0.001)


def test_values_that_are_all_equal_have_an_interval_of_no_width():
    shift = effects.compare_means("brightness", np.ones(5), np.full(4, 0.5))
    assert shift["ci95"] == [-0.5, -0.5]
