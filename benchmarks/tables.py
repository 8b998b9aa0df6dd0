"""What the benchmarks share, and the tables that the documents show of them.

`python benchmarks/tables.py` writes each results/NAME.json as a table into README.md
and benchmarks/RESULTS.md, at each line `<!-- table: NAME -->`. A line
`<!-- table: NAME; rows: A; B; columns: C; D -->` selects rows, by their first cell, and
columns.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (ROOT / "README.md", ROOT / "benchmarks" / "RESULTS.md")

_PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy")
_TABLE = re.compile(
    r"(?P<begin><!-- table: (?P<name>\w+)"
    r"(?:; rows: (?P<rows>[^\n]+?); columns: (?P<columns>[^\n]+?))? -->\n)"
    r".*?(?P<end><!-- end of table -->)",
    re.DOTALL,
)


def describe_machine(*more_packages):
    """What a figure was measured on and with: a dictionary for the header."""
    changed = _git("status", "--porcelain", "--", "pipeline", "trainer", "export")
    return {
        "machine": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in (*_PACKAGES, *more_packages)
        },
        "commit": _git("rev-parse", "--short", "HEAD")
        + (" changed" if changed else ""),
        "date": datetime.date.today().isoformat(),
    }


def _git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _cpu():
    with open("/proc/cpuinfo") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    found = {key.strip(): value for key, value in lines.items()}
    bfloat16 = "avx512_bf16" in found.get("flags", "")
    name = found.get("model name", platform.machine()).strip()
    return f"{name} {'with' if bfloat16 else 'without'} AVX512_BF16"


def spread(values, digits=1):
    """Median, and in brackets the smallest and the largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def save(name, *, about, header, columns, rows, samples):
    """Keeps a benchmark's table, and the samples it was made of; prints the table."""
    result = {
        "about": about,
        "header": header,
        "columns": columns,
        "rows": rows,
        "samples": samples,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(format_table(result), flush=True)


def format_table(result):
    """One result as Markdown, its conditions below it."""
    header = result["header"]
    versions = ", ".join(f"{name} {v}" for name, v in header["versions"].items())
    lines = [result["columns"], ["---"] * len(result["columns"]), *result["rows"]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{table}\n\n{result['about']} {header['machine']}; Python {header['python']}, "
        f"{versions}; commit {header['commit']}, {header['date']}.\n"
    )


def select(result, rows, columns):
    """Returns a result with only these rows and columns.

    rows: their first cells. columns: their titles, from left to right; a title that
      occurs twice is the first one after the column before it.
    """
    indices = []
    for column in columns:
        start = indices[-1] + 1 if indices else 0
        indices.append(result["columns"].index(column, start))
    by_name = {row[0]: row for row in result["rows"]}
    return result | {
        "columns": columns,
        "rows": [[by_name[row][index] for index in indices] for row in rows],
    }


def fill(text):
    """Returns a document with the tables of its marked lines."""

    def table(match):
        result = json.loads((RESULTS / f"{match['name']}.json").read_text())
        if match["rows"]:
            rows, columns = match["rows"].split("; "), match["columns"].split("; ")
            result = select(result, rows, columns)
        return match["begin"] + format_table(result) + match["end"]

    return _TABLE.sub(table, text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text()))
