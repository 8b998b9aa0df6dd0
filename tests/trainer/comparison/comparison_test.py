import dataclasses

import pytest

from trainer.comparison.comparison import BROKEN, MENDED, STILL_WRONG, compare_runs
from trainer.comparison.paired_tests import mcnemar_p_value

pytestmark = pytest.mark.usefixtures("few_resamples")

ANSWERS = [
    *[("rose", "rose", "rose")] * 10,
    *[("rose", "tulip", "rose")] * 6,
    ("rose", "rose", "daisy"),
    *[("tulip", "tulip", "tulip")] * 3,
    ("tulip", "rose", "daisy"),
    ("tulip", "rose", "rose"),
]


def test_two_runs_are_compared_photograph_by_photograph(make_pair):
    (comparison,) = compare_runs(make_pair(ANSWERS))
    assert (comparison.wins, comparison.losses, comparison.count) == (6, 1, 22)
    assert comparison.p_value == mcnemar_p_value(6, 1)  # 0.125
    assert not comparison.is_beyond_chance
    assert comparison.differences["accuracy"].value == pytest.approx(5 / 22)
    changed = {
        kind: [change.row for change in comparison.changes_of(kind)]
        for kind in (BROKEN, MENDED, STILL_WRONG)
    }
    assert changed == {
        BROKEN: [16],
        MENDED: [10, 11, 12, 13, 14, 15],
        STILL_WRONG: [20],
    }


def test_classes_that_occur_are_compared_each(make_pair):
    (comparison,) = compare_runs(make_pair(ANSWERS))
    rose, tulip = comparison.classes
    assert (rose.name, rose.count, rose.first_right, rose.second_right) == (
        *("rose", 17),
        *(11, 16),
    )
    assert rose.difference.value == pytest.approx(5 / 17)
    assert (tulip.name, tulip.count, tulip.difference.value) == ("tulip", 5, 0)


def test_several_comparisons_share_the_chance_of_an_error(make_pair):
    first, second = make_pair(ANSWERS[:16])
    (alone,) = compare_runs([first, second])
    assert alone.p_value == pytest.approx(2 / 64)
    assert alone.is_beyond_chance
    third = dataclasses.replace(first, letter="C")
    of_second, of_third = compare_runs([first, second, third])
    assert of_second.p_value == pytest.approx(4 / 64)
    assert not of_second.is_beyond_chance
    assert of_third.p_value == 1
    assert of_second.detectable > alone.detectable


def test_the_surest_wrong_answer_is_first(make_pair):
    first, second = make_pair([("rose", "rose", "tulip")] * 3)
    probabilities = second.probabilities.copy()
    probabilities[1] = (0.02, 0.03, 0.95)
    probabilities[2] = (0.03, 0.07, 0.9)
    second = dataclasses.replace(second, probabilities=probabilities)
    (comparison,) = compare_runs([first, second])
    assert [change.row for change in comparison.changes] == [1, 2, 0]
