import pytest

from pipeline.sources.check_source import check_source


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("set.rar", b"Rar!", "is an archive of another kind: unpack it, and give"),
        ("set.7z", b"7z", "is an archive of another kind: unpack it, and give"),
        ("set.zip", b"<html>Sign in</html>", "is no .zip archive, or is cut off"),
        ("list.csv", b"path,label", "is a table: write --source=csv:"),
        ("photo.jpg", b"\xff\xd8", "is another file"),
    ],
)
def test_another_file_is_one_line_with_the_way_on(tmp_path, name, content, advice):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=advice):
        check_source(str(tmp_path / name))


def test_a_tilde_is_explained():
    with pytest.raises(ValueError, match="write \\$HOME in place of ~"):
        check_source("~/no-such-photographs")


def test_the_library_of_a_program_is_no_source(tmp_path):
    library = tmp_path / "Photos Library.photoslibrary"
    (library / "originals" / "A").mkdir(parents=True)
    with pytest.raises(ValueError, match="Export the photographs from the program"):
        check_source(f"{library}/")
