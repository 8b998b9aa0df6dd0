import numpy as np
import pytest

from trainer.evaluation import metrics
from trainer.training.validation import find_clearly_better, weigh_classes_equally


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
    errors = np.zeros((3, 100))
    errors[0, :only_row_0_is_wrong] = 1
    errors[1, 50 : 50 + only_row_1_is_wrong] = 1
    errors[2] = 1
    assert find_clearly_better(errors) == expected


def test_weighted_errors_are_one_minus_the_balanced_accuracy():
    labels = np.array([0] * 8 + [1] * 2)
    predicted = np.array([0] * 7 + [1, 1, 0])
    weights = weigh_classes_equally(labels)
    assert weights.mean() == pytest.approx(1.0)
    balanced = metrics.compute_figures(np.eye(2)[predicted], labels)
    error = (weights * (predicted != labels)).mean()
    assert error == pytest.approx(1 - balanced["balanced_accuracy"])
