"""Prepares the data that tests of several folders share, once per session."""

import pathlib

import fakes
import hypothesis
import pytest

from pipeline import prepare

# A time limit for an example would fail on a machine that is busy.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> pathlib.Path:
    """A folder of 33 drawn photographs per class; a test must not change it."""
    return fakes.write_folder(tmp_path_factory.mktemp("shared") / "p", per_class=33)


@pytest.fixture(scope="session")
def data_dir(photographs, tmp_path_factory) -> str:
    """The photographs, prepared with seed 1; a test must not change them."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare.prepare(str(photographs), str(out))
    return str(out)
