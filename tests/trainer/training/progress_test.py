import types

import pytest

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
