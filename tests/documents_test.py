import importlib.util
import json

import fakes
import pytest


def _tables():
    path = fakes.REPOSITORY / "benchmarks" / "tables.py"
    spec = importlib.util.spec_from_file_location("tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", ["README.md", "BUILD_NOTES.md"])
def test_the_tables_are_those_of_the_results(document):
    text = (fakes.REPOSITORY / document).read_text()
    assert _tables().fill(text) == text


def test_the_readme_shows_how_fast_it_is():
    text = (fakes.REPOSITORY / "README.md").read_text()
    for name in ("time_to_result", "input"):
        assert f"<!-- table: {name} -->\n| " in text


def test_each_result_says_what_it_was_measured_on():
    results = sorted((fakes.REPOSITORY / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        result = json.loads(path.read_text())
        assert set(result["header"]) == {
            *("machine", "python", "versions", "commit", "date")
        }
        assert "changed" not in result["header"]["commit"], path
        assert result["samples"]
        assert {len(row) for row in result["rows"]} == {len(result["columns"])}
