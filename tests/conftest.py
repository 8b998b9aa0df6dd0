"""Prepares the data that tests of several folders share, and orders the tests."""

import gc
import pathlib

import fakes
import hypothesis
import pytest

from pipeline import prepare

# A time limit for an example would fail on a machine that is busy.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")

# Files with tests of half a minute and more, the longest first.
_LONGEST = (
    "end_to_end/resume_test.py",
    "export/demo_test.py",
    "trainer/features/runs_test.py",
    "end_to_end/command_test.py",
    "trainer/head_search/search_test.py",
    "end_to_end/serve_test.py",
    "trainer/training/replicas_test.py",
    "end_to_end/cluster_test.py",
    "end_to_end/hostile_names_test.py",
    "end_to_end/interruption_test.py",
    "export/version/interruption_test.py",
    "trainer/head_search/logistic_head_test.py",
    "end_to_end/photographs_test.py",
)


# What imports and collection allocate stays: to look through it again and again takes
# a second of each process before its first test, and a second of a minute of tests.
gc.disable()


def pytest_collection_finish() -> None:
    """Collects garbage from now on, but only what the tests allocate."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts long tests first, so that no process waits for the last one of another."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    tests = pathlib.Path(__file__).parent
    items.sort(
        key=lambda item: places.get(
            item.path.relative_to(tests).as_posix(), len(places)
        )
    )


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
