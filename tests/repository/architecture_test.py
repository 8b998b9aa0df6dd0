"""Checks the rules that keep the packages in order, from their source."""

import ast
import os
import pathlib
import subprocess
import sys

import fakes
import pytest

PACKAGES = ("pipeline", "trainer", "export")
FILES = sorted(
    path
    for package in PACKAGES
    for path in (fakes.REPOSITORY / package).rglob("*.py")
    if path.name != "__init__.py"
)

# For each room the rooms of its own package that it may import. Every package may
# also import the packages before it.
PIPELINE = {
    "system": set(),
    "decoding": set(),
    "sources": {"system"},
    "augmentation": set(),
    "loading": {"system", "decoding", "sources"},
    "inspection": {"system", "decoding", "sources"},
    "audit": {"system", "inspection", "sources"},
    "splits": {"system", "audit", "sources"},
    "records": {"system", "sources"},
    "stored_examples": {"system"},
    "prepare": {"system", "sources", "inspection", "audit", "splits", "records"},
    "main": {"system", "sources", "splits", "prepare"},
}
BELOW_TRAINING = {
    *("config", "distribution", "models", "postprocessing", "evaluation", "features")
}
TRAINER = {
    "config": set(),
    "embedded": set(),
    "models": {"config", "embedded"},
    "distribution": set(),
    "postprocessing": set(),
    "evaluation": {"config", "distribution", "models", "postprocessing"},
    "comparison": {"config", "evaluation"},
    "compare": {"comparison"},
    "features": BELOW_TRAINING - {"features"},
    "training": BELOW_TRAINING,
    "head_search": {*BELOW_TRAINING, "training"},
    "split_outputs": BELOW_TRAINING,
    "final_evaluation": {*BELOW_TRAINING, "training", "split_outputs"},
    "run_setup": {*BELOW_TRAINING, "training"},
    "label_check": {*BELOW_TRAINING, "head_search"},
    "train": {
        *(*BELOW_TRAINING, "run_setup", "training", "head_search"),
        *("final_evaluation", "label_check"),
    },
    "check_labels": {"config", "distribution", "label_check"},
    "main": {"config", "distribution", "train"},
}
EXPORT = {
    "protocol": set(),
    "c_api": {"protocol"},
    "local_server": {"protocol", "c_api"},
    "remote": {"protocol"},
    "graph": {"protocol"},
    "drift_check": {"protocol", "c_api", "remote"},
    "version": {"protocol", "graph", "c_api", "drift_check"},
    # The C API runs in a process of its own.
    "checks": {"protocol", "graph"},
    "export_run": {"version", "checks"},
    "main": {"export_run", "version"},
    "serve": {"local_server"},
    "client": {"protocol", "remote"},
    "drift": {"drift_check", "remote", "version"},
    "demo": set(),
}
ROOMS = {"pipeline": PIPELINE, "trainer": TRAINER, "export": EXPORT}

# Importing these must not load TensorFlow, so that help and mistakes come at once.
LIGHT = (
    *("pipeline.sources", "pipeline.inspection", "pipeline.audit", "pipeline.splits"),
    *("pipeline.prepare", "pipeline.system", "pipeline.augmentation.presets"),
    *("pipeline.stored_examples", "trainer.compare", "trainer.comparison"),
    *("trainer.config", "export.protocol", "export.c_api", "export.remote"),
    *("export.local_server", "export.client", "export.demo"),
    *("export.drift_check", "export.drift"),
)


def _module(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(fakes.REPOSITORY).with_suffix("").parts)


def _imports(path: pathlib.Path) -> set[str]:
    """Returns the full names that a file imports, also those inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_go_one_way(path):
    package, room = _module(path).split(".")[:2]
    for name in _imports(path):
        other_package, *rest = name.split(".")
        if other_package not in PACKAGES or not rest:
            continue
        assert rest[0] != "main", name
        if other_package == package:
            assert rest[0] in ROOMS[package][room] | {room}, name
        elif (package, room) == ("trainer", "main"):
            assert name in ("export.export_run", "export.export_run.export_run") or (
                other_package == "pipeline"
            ), name
        else:
            assert PACKAGES.index(other_package) < PACKAGES.index(package), name


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_special_imports_stay_in_their_room(path):
    imports = _imports(path)
    if any(name.split(".")[0] == "keras_cv" for name in imports):
        assert _module(path) == "pipeline.augmentation.affine"
    if path.is_relative_to(fakes.REPOSITORY / "export"):
        forbidden = (
            *(f"trainer.training.{name}" for name in ("loop", "step", "epoch")),
            "pipeline.augmentation",
        )
        assert not [name for name in imports if name.startswith(forbidden)]


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_flags_are_read_in_the_commands_and_in_config_alone(path):
    names = {
        node.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name)
    }
    if "FLAGS" in names:
        module = _module(path)
        assert (
            path.name == "main.py"
            or module
            in ("export.client", "export.demo", "export.drift", "export.serve")
            or module in ("trainer.check_labels", "trainer.compare")
            or module == "trainer.embedded.pretrain"
            or module.startswith("trainer.config.")
        )


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_no_file_is_long(path):
    assert len(path.read_text().splitlines()) <= 300


def _count_code_lines(function: ast.FunctionDef) -> int:
    """Counts the lines of a function without its decorators and its docstring."""
    first, last = function.lineno, function.end_lineno
    assert last is not None
    if ast.get_docstring(function):
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        first += docstring.end_lineno - docstring.lineno + 1
    return last - first + 1


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_long_functions_have_a_reason_and_calls_are_clear(path):
    source = path.read_text()
    comments = [line for line in source.splitlines() if line.startswith("# Longer")]
    long_functions = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            names = [a.arg for a in positional if a.arg not in ("self", "cls")]
            assert len(names) <= 5, node.name
            if _count_code_lines(node) > 60:
                long_functions.append(node.name)
    assert len(long_functions) <= len(comments), long_functions


@pytest.mark.slow
def test_light_modules_do_not_load_tensorflow():
    modules = [
        _module(path)
        for path in FILES
        if any(_module(path) == m or _module(path).startswith(f"{m}.") for m in LIGHT)
    ]
    script = (
        "import importlib, sys\n"
        "from absl import flags\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'tensorflow.python' not in sys.modules, name\n"
        # Two commands may define a flag of the same name.
        "    for flag in list(flags.FLAGS):\n"
        "        delattr(flags.FLAGS, flag)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=fakes.REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
