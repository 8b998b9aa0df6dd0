import hashlib
import pathlib

import numpy as np
import pytest

from trainer.comparison.alignment import (
    align_runs,
    find_data_dir,
    were_checked_by_content,
)
from trainer.comparison.run_results import read_runs

ANSWERS = {
    "1.jpg": ("rose", "rose"),
    "2.jpg": ("daisy", "tulip"),
    "3.jpg": ("tulip", "daisy"),
}


def _align(*paths):
    return align_runs(read_runs(paths))


# The first swaps two classes; the second moves each of the three.
@pytest.mark.parametrize(
    "classes", [("tulip", "rose", "daisy"), ("rose", "tulip", "daisy")], ids=str
)
def test_photographs_and_classes_take_the_order_of_the_first(make_run, classes):
    other_order = dict(reversed(ANSWERS.items())) | {"1.jpg": ("rose", "daisy")}
    first, second = _align(
        make_run("a", ANSWERS),
        make_run("b", other_order, classes=classes),
    )
    assert second.names == first.names == ("1.jpg", "2.jpg", "3.jpg")
    assert second.classes == ("daisy", "rose", "tulip")
    np.testing.assert_array_equal(second.labels, first.labels)
    np.testing.assert_array_equal(first.predicted, [1, 2, 0])
    np.testing.assert_array_equal(second.predicted, [0, 2, 0])
    np.testing.assert_allclose(second.probabilities[0], [0.8, 0.1, 0.1])
    np.testing.assert_allclose(second.probabilities[1], [0.1, 0.1, 0.8])
    np.testing.assert_array_equal(second.positions, [2, 1, 0])


def test_other_classes_are_an_error(make_run):
    other = {"1.jpg": ("rose", "rose"), "2.jpg": ("lily", "lily")}
    with pytest.raises(ValueError, match="same classes") as caught:
        _align(
            make_run("a", ANSWERS),
            make_run("b", other, classes=("daisy", "lily", "rose")),
        )
    message = str(caught.value)
    assert "1 that only A ('" in message
    assert "has ('tulip'); 1 that only B" in message
    assert "has ('lily')" in message


def test_other_photographs_are_an_error_that_names_three(make_run):
    other = {"1.jpg": ("rose", "rose")}
    other |= {f"new{i}.jpg": ("rose", "rose") for i in range(5)}
    with pytest.raises(ValueError, match="same test photographs") as caught:
        _align(make_run("a", ANSWERS), make_run("b", other))
    message = str(caught.value)
    assert "Received: 1 that both have; 2 that only A" in message
    assert "has ('2.jpg', '3.jpg'); 5 that only B" in message
    assert "has ('new0.jpg', 'new1.jpg', 'new2.jpg', ...)" in message
    assert "--splits_from=DATA/splits.csv" in message
    assert "new3" not in message


def test_fewer_photographs_are_an_error(make_run):
    fewer = {name: ANSWERS[name] for name in ("1.jpg", "2.jpg")}
    with pytest.raises(ValueError, match="2 that both have; 0 that only A") as caught:
        _align(make_run("a", fewer), make_run("b", ANSWERS))
    assert "1 that only B" in str(caught.value)


def test_other_labels_are_an_error(make_run):
    relabelled = ANSWERS | {"2.jpg": ("rose", "rose")}
    with pytest.raises(
        ValueError, match=r"1 of 3 differ, such as '2.jpg': 'daisy' in A .* 'rose' in B"
    ):
        _align(make_run("a", ANSWERS), make_run("b", relabelled))


def _write_data(folder: pathlib.Path, hash_of_name):
    folder.mkdir()
    lines = ["name,label,sha256,group,split"]
    lines += [f"{name},rose,{value},g,test" for name, value in hash_of_name.items()]
    (folder / "splits.csv").write_text("\n".join(lines))
    fingerprint = hashlib.sha256((folder / "splits.csv").read_bytes()).hexdigest()
    return {
        "flags": {"data_dir": str(folder)},
        "data": {"splits_sha256": fingerprint},
    }


def test_other_files_of_the_same_names_are_an_error(make_run, tmp_path):
    hashes = {name: name[0] * 64 for name in ANSWERS}
    config = _write_data(tmp_path / "data", hashes)
    changed = _write_data(tmp_path / "other", hashes | {"2.jpg": "f" * 64})
    first = make_run("a", ANSWERS, config=config)
    with pytest.raises(ValueError, match=r"1 of 3 are other files .* \('2.jpg'\)"):
        _align(first, make_run("b", ANSWERS, config=changed))
    more = _write_data(tmp_path / "more", hashes | {"unused.jpg": "e" * 64})
    assert were_checked_by_content(_align(first, make_run("c", ANSWERS, config=more)))
    unknown = _align(first, make_run("d", ANSWERS))
    assert not were_checked_by_content(unknown)


def test_data_that_changed_or_are_gone_are_not_used(make_run, tmp_path):
    config = _write_data(tmp_path / "data", {"1.jpg": "a" * 64})
    run, _ = _align(make_run("a", ANSWERS, config=config), make_run("b", ANSWERS))
    assert find_data_dir(run) == tmp_path / "data"
    (tmp_path / "data").rename(run.path / "data")  # The run moved with its data.
    assert find_data_dir(run) == run.path / "data"
    (run.path / "data" / "splits.csv").write_text("name,split\n")
    assert find_data_dir(run) is None
