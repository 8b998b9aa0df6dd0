"""Runs the commands of the documents that are marked with <!-- run -->."""

import os
import re
import subprocess
import sys

import fakes
import pytest

_MARKED = re.compile(r"^<!-- run -->\n```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
# In the order in which their directories are needed.
_PAGES = ("own-data.md", "no-network.md")


def test_every_marked_command_is_run():
    how_to = fakes.REPOSITORY / "docs" / "how-to"
    marked = {
        path.name for path in how_to.glob("*.md") if _MARKED.search(path.read_text())
    }
    assert marked == set(_PAGES)


@pytest.mark.slow
def test_the_marked_commands_work(tmp_path):
    photographs = fakes.write_folder(tmp_path / "photographs", per_class=40)
    directories = {
        "PHOTOS": photographs,
        "DATA": tmp_path / "data",
        "AUDIT": tmp_path / "audit",
        "RUN": tmp_path / "run",
    }
    (tmp_path / "audit").mkdir()
    environment = os.environ | {name: str(path) for name, path in directories.items()}
    python_dir = os.path.dirname(sys.executable)
    environment["PATH"] = os.pathsep.join([python_dir, environment["PATH"]])
    for page in _PAGES:
        text = (fakes.REPOSITORY / "docs" / "how-to" / page).read_text()
        for commands in _MARKED.findall(text):
            result = subprocess.run(
                ["sh", "-e", "-c", commands],
                cwd=fakes.REPOSITORY,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "audit" / "audit.html").is_file()
    assert (tmp_path / "data" / "splits.csv").is_file()
    assert (tmp_path / "run" / "summary.json").is_file()
