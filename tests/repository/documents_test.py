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


@pytest.mark.parametrize("document", ["README.md", "benchmarks/RESULTS.md"])
def test_the_tables_are_those_of_the_results(document):
    text = (fakes.REPOSITORY / document).read_text()
    assert _tables().fill(text) == text


def test_the_readme_selects_rows_and_columns_of_the_whole_job():
    result = json.loads(
        (fakes.REPOSITORY / "benchmarks/results/time_to_result.json").read_text()
    )
    text = (fakes.REPOSITORY / "README.md").read_text()
    (whole_row,) = (row for row in result["rows"] if row[0] == "ours, exact")
    position = result["columns"].index("whole job, s")
    assert (
        f"| ours, exact | {whole_row[position]} | {whole_row[position + 1]} |" in text
    )


def test_the_results_hold_every_table():
    text = (fakes.REPOSITORY / "benchmarks" / "RESULTS.md").read_text()
    for path in (fakes.REPOSITORY / "benchmarks" / "results").glob("*.json"):
        assert f"<!-- table: {path.stem} -->\n| " in text


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
