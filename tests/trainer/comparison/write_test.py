import pytest

from trainer.comparison import changes_csv
from trainer.comparison.write import compare

pytestmark = pytest.mark.usefixtures("few_resamples")

ANSWERS = {"1.jpg": ("rose", "rose"), "2.jpg": ("daisy", "tulip")}


@pytest.fixture
def pair(make_run):
    changed = ANSWERS | {"1.jpg": ("rose", "daisy")}
    return [make_run("a", ANSWERS), make_run("b", changed)]


def _list(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("out", "page", "table"),
    [
        ("new/folder", "new/folder/compare.html", "new/folder/compare.csv"),
        ("a-b.html", "a-b.html", "a-b.csv"),
        ("sub/a-b.HTML", "sub/a-b.HTML", "sub/a-b.csv"),
        ("v1.2", "v1.2/compare.html", "v1.2/compare.csv"),
    ],
)
def test_out_is_a_folder_or_a_page(pair, tmp_path, out, page, table):
    outcome = compare(pair, str(tmp_path / out))
    assert (outcome.page, outcome.table) == (tmp_path / page, tmp_path / table)
    assert "</html>" in outcome.page.read_text()
    assert len(outcome.table.read_text().splitlines()) == 2
    assert outcome.comparisons[0].losses == 1


def test_an_older_comparison_is_replaced(pair, tmp_path):
    before = compare(pair, str(tmp_path)).page.read_text()
    compare(pair[::-1], str(tmp_path))
    assert (tmp_path / "compare.html").read_text() != before
    assert _list(tmp_path)[-2:] == ["compare.csv", "compare.html"]


@pytest.mark.parametrize("name", ["compare.html", "compare.csv"])
def test_a_file_of_another_origin_stays(pair, tmp_path, name):
    (tmp_path / name).write_text("my notes\n")
    before = _list(tmp_path)
    with pytest.raises(
        ValueError, match=f"'.*/{name}' exists, and trainer.compare did"
    ):
        compare(pair, str(tmp_path))
    assert (tmp_path / name).read_text() == "my notes\n"
    assert _list(tmp_path) == before


def test_a_folder_in_the_way_is_an_error(pair, tmp_path):
    (tmp_path / "compare.csv").mkdir()
    with pytest.raises(ValueError, match=r"compare.csv' exists, and trainer.compare"):
        compare(pair, str(tmp_path))


def test_out_must_be_writable(pair, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--out must be a writable directory"):
        compare(pair, str(tmp_path / "file"))


def test_an_error_writes_nothing(pair, tmp_path, monkeypatch):
    before = _list(tmp_path)
    with pytest.raises(ValueError, match="which are the same"):
        compare([pair[0], pair[0]], str(tmp_path / "out"))
    assert _list(tmp_path) == before

    def fail(path, comparisons):
        path.write_text("half")
        raise OSError("no room")

    monkeypatch.setattr(changes_csv, "write_changes", fail)
    with pytest.raises(OSError, match="no room"):
        compare(pair, str(tmp_path))
    assert _list(tmp_path) == before
