"""The rules that keep the house in order, read off the source."""

import ast

import fakes
import pytest

PACKAGES = ("pipeline", "trainer", "export")
COMMANDS = (*(f"{p}.main" for p in PACKAGES), "export.serve", "export.client")
FILES = sorted(
    path for package in PACKAGES for path in (fakes.REPOSITORY / package).glob("*.py")
)


def _module(path) -> str:
    return f"{path.parent.name}.{path.stem}"


def _imports(path) -> set[str]:
    """Full names of what a file imports, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_go_one_way(path):
    imports = _imports(path)
    for module in imports:
        assert not module.startswith(tuple(f"{p}.main" for p in PACKAGES))
    if path.stem == "main":
        return
    allowed = PACKAGES[: PACKAGES.index(path.parent.name) + 1]
    used = {m.split(".")[0] for m in imports} & set(PACKAGES)
    assert used <= set(allowed)


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_special_imports_stay_in_their_room(path):
    imports = _imports(path)
    if any(module.split(".")[0] == "keras_cv" for module in imports):
        assert _module(path) == "pipeline.augment"
    if path.parent.name == "export" and path.stem != "main":
        assert not imports & {"trainer.loop", "pipeline.augment"}


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_flags_are_read_in_the_commands_and_in_config_alone(path):
    names = {
        node.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name)
    }
    if "FLAGS" in names:
        assert _module(path) in COMMANDS
