import numpy as np
import pytest

from export.drift_check import unusual


def test_distances_are_in_units_of_the_reference():
    # On a line with a step of 2: inside, the nearest five are 2, 2, 4, 4, 6 away.
    reference = np.arange(0, 200, 2.0)[:, None]
    near, far = unusual.distances_to_reference(reference, np.array([[101.0], [300.0]]))
    # To 100, 102, 98, 104, 96; the unit is 18 / 5.
    assert near == pytest.approx((1 + 1 + 3 + 3 + 5) / 18)
    assert far == pytest.approx((102 + 104 + 106 + 108 + 110) / 18)


def test_a_reference_of_equal_photographs_has_the_unit_1():
    distances = unusual.distances_to_reference(np.zeros((3, 2)), np.array([[3.0, 4.0]]))
    assert distances.tolist() == [5.0]
