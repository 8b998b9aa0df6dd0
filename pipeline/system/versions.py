"""The versions of this project and of the packages that it computes with."""

import importlib.metadata
import pathlib
import subprocess
from collections.abc import Iterable

# The one place of the version: setup.py reads it from here.
PROJECT_VERSION = "0.3.0"

PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy")


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Maps the name of each package to its installed version."""
    return {name: importlib.metadata.version(name) for name in names}


def project_version() -> dict[str, str | None]:
    """Returns {"version": ..., "commit": ...} of this project.

    The commit is None where the code does not run from a git checkout.
    """
    return {"version": PROJECT_VERSION, "commit": _git_commit()}


def _git_commit() -> str | None:
    repository = pathlib.Path(__file__).resolve().parents[2]
    if not (repository / ".git").exists():
        return None
    command = ["git", "-C", str(repository), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
