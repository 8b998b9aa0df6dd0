"""The models and the server that the tests of the local server share."""

import pathlib

import fakes
import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> list[pathlib.Path]:
    """Two SavedModels that differ in their labels: "red" and "red-2"."""
    base = tmp_path_factory.mktemp("models")
    return [
        fakes.write_servable(base / "first"),
        fakes.write_servable(base / "second", suffix="-2"),
    ]


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    export_dir = tmp_path_factory.mktemp("export")
    fakes.publish(models[0], export_dir, 7)
    with fakes.Server(export_dir) as running:
        yield running


@pytest.fixture
def export_dir(models, tmp_path) -> pathlib.Path:
    fakes.publish(models[0], tmp_path, 1)
    return tmp_path
