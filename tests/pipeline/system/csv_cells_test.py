import pytest

from pipeline.system import csv_cells


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("rose/1.jpg", "rose/1.jpg"),
        ("=1+1/a.jpg", "'=1+1/a.jpg"),
        ("@sum", "'@sum"),
        ("-1", "'-1"),
        ("+a", "'+a"),
        ("\ta", "'\ta"),
        ("'=a", "''=a"),
        ("'a'", "'a'"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_cell_is_no_formula_and_gives_the_text_back(text, cell):
    assert csv_cells.escape(text) == cell
    assert csv_cells.unescape(cell) == text
