import numpy as np
import pytest

from trainer.training.validation import find_clearly_better


@pytest.mark.parametrize(
    ("only_row_0_is_wrong", "only_row_1_is_wrong", "expected"),
    [
        (0, 0, 0),
        (0, 5, 0),
        # The difference and two of its standard errors, in images: 3 and 3.4, 5 and
        # 4.4, 3 and 6.0, 9 and 7.5.
        (3, 0, 0),
        (5, 0, 1),
        (6, 3, 0),
        (12, 3, 1),
    ],
)
def test_another_is_better_by_two_standard_errors(
    only_row_0_is_wrong, only_row_1_is_wrong, expected
):
    errors = np.zeros((3, 100), bool)
    errors[0, :only_row_0_is_wrong] = True
    errors[1, 50 : 50 + only_row_1_is_wrong] = True
    errors[2] = True
    assert find_clearly_better(errors) == expected
