import csv

import numpy as np
import pytest

from trainer.evaluation.predictions import read_predictions, write_predictions

CLASSES = ["a,b", 'quoted "c"', "name"]
NAMES = ["x/1.jpg", "line\nfeed.jpg", "=1+1.jpg"]
LABELS = np.array([0, 1, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.25, 0.5]])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "test_predictions.csv"
    write_predictions(path, NAMES, LABELS, PROBABILITIES, CLASSES)
    return path


def test_what_was_written_is_read(path):
    predictions = read_predictions(path, CLASSES)
    assert predictions.names == tuple(NAMES)
    np.testing.assert_array_equal(predictions.labels, LABELS)
    np.testing.assert_array_equal(predictions.predicted, [0, 2, 2])
    np.testing.assert_allclose(predictions.probabilities, PROBABILITIES, atol=1e-9)


def test_no_value_is_a_formula_and_the_real_names_come_back(tmp_path):
    path = tmp_path / "file.csv"
    classes = ["=cmd|' /C calc'!A0", "@b", "'c", "'=d"]
    names = ["+1.jpg", "'=2.jpg", "'quoted'.jpg", "\x1b[2J.jpg"]
    write_predictions(path, names, np.arange(4), np.eye(4), classes)
    with open(path, newline="", encoding="utf-8") as file:
        values = [value for row in csv.reader(file) for value in row]
    assert not [v for v in values if v.startswith(("=", "+", "-", "@"))]
    predictions = read_predictions(path, classes)
    assert predictions.names == tuple(names)
    np.testing.assert_array_equal(predictions.labels, np.arange(4))


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("name,label,predicted,=a,b\n=1.jpg,=a,=a,0.6,0.4\n")
    predictions = read_predictions(path, ["=a", "b"])
    assert predictions.names == ("=1.jpg",)


def test_columns_behind_the_classes_are_ignored(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("name,label,predicted,a,b,more\n1.jpg,a,b,0.4,0.6,?\n")
    predictions = read_predictions(path, ["a", "b"])
    np.testing.assert_array_equal(predictions.probabilities, [[0.4, 0.6]])


GOOD = "name,label,predicted,a,b\n1.jpg,a,a,0.6,0.4\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "first line of .* must be 'name,label,predicted,a,b'. Received: ''"),
        ("name,label,a,b\n", "Received: 'name,label,a,b'"),
        (GOOD + "2.jpg,a,a,0.6\n", "Line 3 of .*: 4 values instead of 5;"),
        (GOOD + "2.jpg,c,a,0.6,0.4\n", "Line 3 of .*: 'c' is no class of the run"),
        (GOOD + "2.jpg,a,,0.6,0.4\n", "Line 3 of .*: '' is no class of the run"),
        (GOOD + "2.jpg,a,a,0.6,x\n", "Line 3 of .* float: 'x'"),
        (GOOD + "2.jpg,a,a,0.6,0.1\n", "Line 3 of .*: the probabilities add up to 0.7"),
        (GOOD + "2.jpg,a,a,1.6,-0.6\n", "Line 3 of .*: the probabilities add up to 1"),
        (GOOD + "2.jpg,a,a,nan,0.4\n", "Line 3 of .*: the probabilities add up to nan"),
        (GOOD + "2.jpg,a,b,0.6,0.4\n", "Line 3 of .*: 'b' is not the likeliest class"),
        (GOOD + "1.jpg,a,a,0.6,0.4\n", "Line 3 of .*: '1.jpg' is also in line 2"),
        (GOOD + '"2.jpg,a,a,0.6,0.4\n', "cannot be read: unexpected end of data"),
        (GOOD + "\udcff.jpg,a,a,0.6,0.4\n", "cannot be read: .*utf-8"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "file.csv"
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=message) as caught:
        read_predictions(path, ["a", "b"])
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"none.csv' cannot be read: .*No such file"):
        read_predictions(tmp_path / "none.csv", ["a", "b"])
