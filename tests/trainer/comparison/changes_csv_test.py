import csv

import pytest

from trainer.comparison.alignment import align_runs
from trainer.comparison.changes_csv import write_changes
from trainer.comparison.comparison import compare_runs
from trainer.comparison.run_results import read_runs

pytestmark = pytest.mark.usefixtures("few_resamples")


def test_every_change_is_a_harmless_row(make_run, tmp_path):
    first = {
        "=cmd|' /C calc'!A0.jpg": ("rose", "rose"),
        'comma, "quote"\n.jpg': ("rose", "tulip"),
        "same.jpg": ("tulip", "tulip"),
    }
    second = {
        "=cmd|' /C calc'!A0.jpg": ("rose", "daisy"),
        'comma, "quote"\n.jpg': ("rose", "rose"),
        "same.jpg": ("tulip", "tulip"),
    }
    paths = [make_run("a", first), make_run("b", second)]
    comparisons = compare_runs(align_runs(read_runs(paths)))
    write_changes(tmp_path / "compare.csv", comparisons)
    with open(tmp_path / "compare.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        [
            *("first_run", "second_run", "change", "name", "label"),
            *("first_predicted", "first_confidence"),
            *("second_predicted", "second_confidence"),
        ],
        [
            *(*paths, "broken", "'=cmd|' /C calc'!A0.jpg", "rose"),
            *("rose", "0.8", "daisy", "0.8"),
        ],
        [
            *(*paths, "mended", 'comma, "quote"\\n.jpg', "rose"),
            *("tulip", "0.8", "rose", "0.8"),
        ],
    ]
