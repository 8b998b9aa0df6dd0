import dataclasses

import pytest

from trainer.comparison import wording
from trainer.comparison.comparison import compare_runs
from trainer.comparison.figures import Estimate, run_figures
from trainer.comparison.settings import Setting

pytestmark = pytest.mark.usefixtures("few_resamples")


def _answers(*, both, wins, losses, neither):
    return [
        *[("rose", "rose", "rose")] * both,
        *[("rose", "tulip", "rose")] * wins,
        *[("rose", "rose", "tulip")] * losses,
        *[("rose", "tulip", "daisy")] * neither,
    ]


def _outcome(make_pair, **counts):
    (comparison,) = compare_runs(make_pair(_answers(**counts)))
    return wording.describe_outcome(comparison)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.12345, False, "0.123"),
        (0.5, True, "+0.500"),
        (-0.5, True, "-0.500"),
        (-0.0001, True, "+0.000"),
        (-0.0001, False, "0.000"),
    ],
)
def test_numbers_have_three_digits_and_no_negative_zero(value, signed, text):
    assert wording.format_number(value, signed=signed) == text


def test_an_estimate_has_its_interval():
    estimate = Estimate(0.848, (0.7671, 0.904))
    assert wording.format_estimate(estimate) == "0.848 [0.767, 0.904]"
    assert wording.format_estimate(estimate, signed=True) == "+0.848 [+0.767, +0.904]"
    assert wording.format_estimate(Estimate(1.0, None)) == "1.000 [-]"


def test_a_difference_beyond_chance(make_pair):
    better = _outcome(make_pair, both=80, wins=14, losses=2, neither=9)
    assert better == (
        "B is right on 12 more of 105 test photographs than A (+0.114 [+0.046, "
        "+0.196], p = 0.004): the difference is beyond chance."
    )


def test_a_loss_beyond_chance(make_pair):
    worse = _outcome(make_pair, both=60, wins=1, losses=20, neither=19)
    assert worse.startswith("B is right on 19 fewer of 100 test photographs than A (-")
    assert worse.endswith("p < 0.001): the difference is beyond chance.")


def test_a_difference_within_chance(make_pair):
    assert _outcome(make_pair, both=80, wins=6, losses=4, neither=15) == (
        "B and A cannot be told apart with 105 test photographs: B is right on 2 more "
        "(+0.019 [-0.046, +0.087], p = 0.754). A difference of about 0.083 would show, "
        "with a chance of 80 %."
    )


def test_no_difference_and_too_few_photographs(make_pair):
    equal = _outcome(make_pair, both=2, wins=0, losses=0, neither=0)
    assert equal == (
        "B and A cannot be told apart with 2 test photographs: B is right on as many "
        "(+0.000 [-0.658, +0.658], p = 1.000). With so few photographs, even the "
        "largest difference would not show."
    )


def test_the_border_between_both(make_pair):
    # The table of Cavo et al., 2012: p = 0.0525, and the interval excludes 0.
    assert _outcome(make_pair, both=59, wins=16, losses=6, neither=80) == (
        "B is right on 10 more of 161 test photographs than A (+0.062 [+0.005, "
        "+0.124], p = 0.052): this may still be chance; compare with more test "
        "photographs."
    )


def test_corrected_p_values_say_so(make_pair):
    first, second = make_pair(_answers(both=10, wins=3, losses=0, neither=0))
    third = dataclasses.replace(first, letter="C")
    comparison, _ = compare_runs([first, second, third])
    assert wording.format_p_value(comparison) == (
        "p = 0.500, corrected for 2 comparisons"
    )


def test_changes_are_counted_by_kind(make_pair):
    (comparison,) = compare_runs(
        make_pair(_answers(both=10, wins=3, losses=2, neither=1))
    )
    assert wording.describe_changes(comparison) == (
        "B against A, of 16 photographs: 3 mended (only B is right), 2 broken (only A "
        "is right), 1 wrong in another way."
    )


def test_the_table_fits_a_terminal(make_pair):
    runs = make_pair(_answers(both=80, wins=14, losses=2, neither=9))
    figures = [run_figures(run) for run in runs]
    lines = wording.make_table(runs, figures, compare_runs(runs)).splitlines()
    assert len(lines) == 1 + 4 * 2
    assert max(map(len, lines)) < 80
    assert lines[0].split() == ["value", "difference", "to", "A"]
    assert lines[1].split("  ") == ["accuracy", *[""] * 4, "A", "0.781 [0.693, 0.849]"]
    assert lines[2].endswith("0.895 [0.822, 0.940]    +0.114 [+0.046, +0.196]")


def test_settings_are_listed_harmlessly(make_pair):
    (comparison,) = compare_runs(
        make_pair(_answers(both=2, wins=0, losses=0, neither=0))
    )
    assert wording.describe_settings(comparison) == (
        "no setting differs between A and B"
    )
    settings = [
        Setting("--weights", "auto", "\x1b[2J" + "x" * 100),
        Setting("--seed", "", "2"),
    ]
    lines = wording.describe_settings(
        dataclasses.replace(comparison, settings=settings)
    ).splitlines()
    assert lines == [
        "settings that differ between A and B:",
        f"  --weights  auto  ->  \\x1b[2J{'x' * 50}...",
        "  --seed     none  ->  2",
    ]
