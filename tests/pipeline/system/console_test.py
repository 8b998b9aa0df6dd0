"""Tests of the progress that is not a terminal's."""

import pytest

from pipeline.system import console


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.5, ""), (4.0, ", 0.75 parts/s"), (0.0625 * 20, ", 2.4 parts/s")],
)
def test_the_last_line_has_a_rate_that_is_never_zero(
    seconds, expected, monkeypatch, capsys
):
    times = iter([0.0, 0.0, 0.0, seconds])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(times))
    items = console.track("abc", total=3, label="solving", unit="parts")
    assert list(items) == ["a", "b", "c"]
    assert capsys.readouterr().err == f"solving: 3/3 parts{expected}\n"


def test_a_large_rate_is_a_whole_number():
    assert console._format_rate(1234.5) == "1234"
    assert console._format_rate(0.0312) == "0.031"
