import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from trainer.comparison.paired_tests import (
    correct_p_values,
    detectable_difference,
    difference_interval,
    mcnemar_p_value,
)


def _trinomial(count, win_rate, loss_rate):
    """Yields wins, losses and their probability, for all pairs."""
    for wins, losses in itertools.product(range(count + 1), repeat=2):
        if wins + losses <= count:
            probability = stats.multinomial.pmf(
                [wins, losses, count - wins - losses],
                count,
                [win_rate, loss_rate, 1 - win_rate - loss_rate],
            )
            yield wins, losses, probability


def test_mcnemar_is_the_binomial_test_on_the_discordant_pairs():
    # By hand: 1 of 6 or fewer, (1 + 6) / 64, on both sides.
    assert mcnemar_p_value(1, 5) == pytest.approx(2 * 7 / 64)
    assert mcnemar_p_value(5, 1) == pytest.approx(2 * 7 / 64)
    # By hand: 0 of 6, 1 / 64, on both sides.
    assert mcnemar_p_value(6, 0) == pytest.approx(2 / 64)
    assert mcnemar_p_value(3, 3) == 1
    assert mcnemar_p_value(0, 0) == 1


def test_published_tables_have_the_published_figures():
    # Cavo et al., 2012, and Bentur et al., 2009, as in Fagerland, Lydersen and Laake,
    # 2014, Statistics in Medicine 33, 2850-2875.
    assert mcnemar_p_value(6, 16) == pytest.approx(0.052479, abs=1e-6)
    assert difference_interval(6, 16, 161) == pytest.approx(
        (-0.1240, -0.0054), abs=5e-5
    )
    assert difference_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("wins", "losses", "count"), [(9, 4, 50), (2, 0, 30)])
def test_the_limits_are_the_differences_that_the_score_test_just_rejects(
    wins, losses, count
):
    for limit in difference_interval(wins, losses, count):
        # The likeliest rates under this difference, found without the formula.
        def surprise(loss_rate, limit=limit):
            win_rate = loss_rate + limit
            rest = 1 - win_rate - loss_rate
            return -(
                wins * np.log(win_rate)
                + losses * np.log(loss_rate)
                + (count - wins - losses) * np.log(rest)
            )

        loss_rate = optimize.minimize_scalar(
            surprise,
            bounds=(max(0, -limit) + 1e-12, (1 - limit) / 2 - 1e-12),
            method="bounded",
            options={"xatol": 1e-10},
        ).x
        variance = count * (2 * loss_rate + limit - limit**2)
        score = (wins - losses - count * limit) / np.sqrt(variance)
        assert abs(score) == pytest.approx(stats.norm.ppf(0.975), abs=1e-3)


def test_the_interval_has_a_width_at_its_extremes_and_mirrors():
    low, high = difference_interval(0, 0, 105)
    z2 = stats.norm.ppf(0.975) ** 2
    # Without a change the score is that of a proportion of zero (Wilson).
    assert (low, high) == pytest.approx((-z2 / (105 + z2), z2 / (105 + z2)))
    assert difference_interval(20, 0, 20)[1] == 1
    assert 0.6 < difference_interval(20, 0, 20)[0] < 0.9
    low, high = difference_interval(7, 2, 40)
    assert difference_interval(2, 7, 40) == pytest.approx((-high, -low))
    assert difference_interval(1, 0, 1)[1] == 1


@pytest.mark.parametrize("rates", [(0.10, 0.10), (0.12, 0.04), (0.2, 0.02)])
def test_the_interval_covers_the_difference_in_95_of_100_samples(rates):
    truth = rates[0] - rates[1]
    coverage = sum(
        probability
        for wins, losses, probability in _trinomial(40, *rates)
        if probability > 1e-9
        and np.diff(np.sign(np.subtract(difference_interval(wins, losses, 40), truth)))
    )
    assert 0.925 < coverage < 0.98


def test_the_interval_excludes_zero_where_the_asymptotic_test_does():
    for wins, losses in itertools.product(range(15), repeat=2):
        low, high = difference_interval(wins, losses, 60)
        statistic = (wins - losses) ** 2 / max(wins + losses, 1)
        assert (low > 0 or high < 0) == (statistic > stats.chi2.ppf(0.95, 1))


def test_holm_multiplies_the_smallest_by_the_number_of_comparisons():
    # By hand: 0.01 * 3, 0.03 * 2, and 0.04 * 1, which is raised to the one before.
    assert correct_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_p_values([0.7, 0.9]) == [1, 1]
    assert correct_p_values([0.2]) == [0.2]


def test_the_detectable_difference_is_found_in_about_four_of_five_samples():
    count, changed = 60, 0.3
    difference = detectable_difference(9, 9, count)
    rates = ((changed + difference) / 2, (changed - difference) / 2)
    power = sum(
        probability
        for wins, losses, probability in _trinomial(count, *rates)
        if probability > 1e-5 and mcnemar_p_value(wins, losses) < 0.05
    )
    # The exact test finds a little less than the asymptotic one of the formula.
    assert 0.70 < power < 0.85


def test_the_detectable_difference_shrinks_with_photographs_and_grows_with_changes():
    few, many = (detectable_difference(2, 2, count) for count in (100, 400))
    assert few / many == pytest.approx(4, rel=0.1)  # Fewer changed than differ.
    assert detectable_difference(20, 20, 400) > detectable_difference(5, 5, 400)
    assert detectable_difference(5, 5, 400, comparisons=3) > (
        detectable_difference(5, 5, 400)
    )
    assert detectable_difference(1, 1, 3) is None
