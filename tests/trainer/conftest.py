"""The data that the tests of the trainer share."""

import fakes
import pytest

from pipeline import prepare


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """Prepared data with 33 drawn photographs per class."""
    base = tmp_path_factory.mktemp("trainer_data")
    source = fakes.write_folder(base / "photos", per_class=33)
    prepare.prepare(str(source), str(base / "data"))
    return str(base / "data")
