import pytest

from trainer.comparison.safe_text import csv_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rosé, 玫瑰.jpg", "rosé, 玫瑰.jpg"),
        ("no\u00a0break", "no\u00a0break"),
        ("a\nb\t\x1b[31mred\x07", r"a\nb\t\x1b[31mred\x07"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("back\\slash 'quoted'", "back\\slash 'quoted'"),
    ],
)
def test_what_commands_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1"])
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(text):
    assert csv_cell(text) == f"'{text}"


def test_other_cells_stay_and_controls_are_escaped():
    assert csv_cell("rose/1-2=3.jpg") == "rose/1-2=3.jpg"
    assert csv_cell("\t=1+1") == r"\t=1+1"
    assert csv_cell("0.25") == "0.25"
