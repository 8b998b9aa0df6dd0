import json
import pathlib

import numpy as np
import pytest

from trainer.comparison.run_results import read_runs

ANSWERS = {"1.jpg": ("rose", "rose"), "2.jpg": ("daisy", "tulip")}


@pytest.fixture
def pair(make_run):
    return [make_run("a", ANSWERS), make_run("b", ANSWERS)]


def _edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def test_a_run_is_read(pair):
    first, second = read_runs(pair)
    assert (first.letter, second.letter) == ("A", "B")
    assert first.path == pathlib.Path(pair[0])
    assert first.classes == ("daisy", "rose", "tulip")
    assert first.names == ("1.jpg", "2.jpg")
    np.testing.assert_array_equal(first.is_right, [True, False])
    np.testing.assert_allclose(first.probabilities[0], [0.1, 0.8, 0.1])


@pytest.mark.parametrize("number", [0, 1, 27])
def test_the_number_of_runs_has_limits(number):
    with pytest.raises(ValueError, match="Name two to 26 directories"):
        read_runs(["run"] * number)


def test_the_same_run_twice_is_an_error(pair, tmp_path):
    (tmp_path / "link").symlink_to(pair[0])
    for other in (pair[0] + "/", pair[0] + "/../a", str(tmp_path / "link")):
        with pytest.raises(ValueError, match=r"'.*/a' and '.*', which are the same"):
            read_runs([pair[0], other])


def test_what_is_no_finished_run_is_an_error(pair, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, problem in {
        "none": "which does not exist",
        "empty": "which has no config.json",
        "file": "which is not a directory",
    }.items():
        with pytest.raises(ValueError, match=f"'.*/{name}', {problem}"):
            read_runs([pair[0], str(tmp_path / name)])
    pathlib.Path(pair[1], "summary.json").unlink()
    with pytest.raises(ValueError, match=r"has none; repeat its trainer.main command"):
        read_runs(pair)


def test_damage_is_named(pair):
    summary = pathlib.Path(pair[1], "summary.json")
    _edit(summary, test={"count": 3, "accuracy": 0.5})
    with pytest.raises(ValueError, match=r"2 photographs, 1 of them right, while .* 3"):
        read_runs(pair)
    _edit(summary, test={"count": 2, "accuracy": 1.0})
    with pytest.raises(ValueError, match=r"1 of them right, while .* has 2 and 2"):
        read_runs(pair)
    _edit(summary, test=None)
    with pytest.raises(ValueError, match=r"summary.json' is damaged. Received: TypeE"):
        read_runs(pair)
    for content in ("{", "[]", "\xff"):
        summary.write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match=r"summary.json' is damaged. Received: "):
            read_runs(pair)


def test_a_config_that_is_no_object_is_damaged(pair):
    for content in ("[]", '{"flags": []}', '{"data": 1}'):
        pathlib.Path(pair[1], "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config.json' is damaged. Received: "):
            read_runs(pair)


def test_one_photograph_is_too_few(make_run):
    one = {"1.jpg": ("rose", "rose")}
    with pytest.raises(ValueError, match="needs at least two test photographs"):
        read_runs([make_run("c", one), make_run("d", one)])


def test_a_later_format_is_refused(pair):
    _edit(pathlib.Path(pair[0], "config.json"), format=99)
    with pytest.raises(
        ValueError, match="format 99, and this version reads formats up"
    ):
        read_runs(pair)
