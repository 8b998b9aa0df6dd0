"""Tests of the progress that is not a terminal's."""

import time

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


def test_a_long_call_has_lines_until_it_ends(monkeypatch, capsys):
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.001)
    printed = ""
    with console.show_elapsed("solving") as set_progress:
        while "solving: 0 s\n" not in printed:
            time.sleep(0.001)
            printed += capsys.readouterr().err
        set_progress("solution 2 of at most 6")
        while "solving: solution 2 of at most 6, 0 s\n" not in printed:
            time.sleep(0.001)
            printed += capsys.readouterr().err
    capsys.readouterr()
    time.sleep(0.02)
    assert capsys.readouterr().err == ""


def test_a_short_call_and_one_that_fails_have_no_line(capsys):
    with console.show_elapsed("solving"):
        pass
    with pytest.raises(ValueError, match="too few"), console.show_elapsed("solving"):
        raise ValueError("too few")
    assert capsys.readouterr().err == ""
