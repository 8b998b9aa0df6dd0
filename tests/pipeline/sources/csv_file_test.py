import pathlib

import pytest

from pipeline.sources.listing import list_images


def _list(source):
    return list_images(str(source), seed=1, work_dir=pathlib.Path())


def test_a_csv_names_paths_labels_splits_and_groups(tmp_path):
    (tmp_path / "a b.jpg").write_bytes(b"one")
    (tmp_path / "list.csv").write_text(
        'label,path,split,group\nrose,"a b.jpg",test,g1\ntulip,2.jpg,,\n'
    )
    first, second = _list(f"csv:{tmp_path / 'list.csv'}").images
    assert (second.name, second.label, second.split, second.group) == (
        "a b.jpg",
        "rose",
        "test",
        "g1",
    )
    assert second.read() == b"one"
    assert (first.label, first.split, first.group) == ("tulip", None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,class\n1.jpg,rose\n", "with file,class"),
        ("", "with no rows"),
        ("path,label\n1.jpg,\n", "line 2 of .*label=''"),
        ("path,label,split\n1.jpg,rose,dev\n", "split='dev'"),
        ("path,label\n1.jpg,rose\n1.jpg,tulip\n", "in lines 2 and 3"),
    ],
)
def test_a_csv_that_cannot_be_used_is_quoted(tmp_path, content, message):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        _list(f"csv:{tmp_path / 'list.csv'}")
