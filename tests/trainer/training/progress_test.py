import types

import pytest

from trainer.config.class_balance import make_balance
from trainer.training import progress


@pytest.mark.parametrize(
    ("step_seconds", "expected"),
    [
        (
            0.5,
            "finetune: about 5 min for its 600 steps, and the time of 2 validations",
        ),
        (0.09, ""),
    ],
)
def test_a_regime_of_a_minute_says_how_long_it_takes(step_seconds, expected, capsys):
    regime = types.SimpleNamespace(name="finetune", steps=600, epochs=2)
    progress.print_duration(regime, step_seconds=step_seconds)
    assert capsys.readouterr().out.strip() == expected


def test_classes_of_one_size_are_called_so():
    assert progress._describe_balance(make_balance("auto", [8, 8])) == (
        "all have equally many training images; all images weigh the same"
    )
    assert progress._describe_balance(make_balance("auto", [8, 12])) == (
        "the largest has 1.5 times the images of the smallest; all images weigh the "
        "same"
    )
