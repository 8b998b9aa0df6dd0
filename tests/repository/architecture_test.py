"""Checks the rules that keep the packages in order, from their source."""

import ast
import functools
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
    "loading": {"system", "decoding", "sources", "inspection"},
    "inspection": {"system", "decoding", "sources"},
    "audit": {"system", "inspection", "sources"},
    "splits": {"system", "audit", "sources"},
    "records": {"system", "sources"},
    "stored_examples": {"system"},
    "prepare": {"system", "sources", "inspection", "audit", "splits", "records"},
    "main": {"system", "sources", "inspection", "splits", "prepare"},
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


@functools.cache
def _parse(path: pathlib.Path) -> list[ast.AST]:
    """Returns every node of a file."""
    return list(ast.walk(ast.parse(path.read_text())))


def _imports(path: pathlib.Path) -> set[str]:
    """Returns the full names that a file imports, also those inside functions."""
    names = set()
    for node in _parse(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _may_import(module: str, name: str) -> bool:
    package, room = module.split(".")[:2]
    other_package, *rest = name.split(".")
    if other_package not in PACKAGES or not rest:
        return True
    if rest[0] == "main":
        return False
    if other_package == package:
        return rest[0] in ROOMS[package][room] | {room}
    if (package, room) == ("trainer", "main"):
        return other_package == "pipeline" or name in (
            *("export.export_run", "export.export_run.export_run"),
        )
    return PACKAGES.index(other_package) < PACKAGES.index(package)


def test_imports_go_one_way():
    wrong = [
        (_module(path), name)
        for path in FILES
        for name in _imports(path)
        if not _may_import(_module(path), name)
    ]
    assert wrong == []


def test_special_imports_stay_in_their_room():
    of_keras_cv = [
        _module(path)
        for path in FILES
        if any(name.split(".")[0] == "keras_cv" for name in _imports(path))
    ]
    assert of_keras_cv == ["pipeline.augmentation.affine"]
    forbidden = (
        *(f"trainer.training.{name}" for name in ("loop", "step", "epoch")),
        "pipeline.augmentation",
    )
    wrong = [
        (_module(path), name)
        for path in FILES
        if path.is_relative_to(fakes.REPOSITORY / "export")
        for name in _imports(path)
        if name.startswith(forbidden)
    ]
    assert wrong == []


def _may_read_flags(path: pathlib.Path) -> bool:
    module = _module(path)
    return (
        path.name == "main.py"
        or module in ("export.client", "export.demo", "export.drift", "export.serve")
        or module in ("trainer.check_labels", "trainer.compare")
        or module == "trainer.embedded.pretrain"
        or module.startswith("trainer.config.")
    )


def test_flags_are_read_in_the_commands_and_in_config_alone():
    readers = [
        path
        for path in FILES
        if any(
            isinstance(node, ast.Name) and node.id == "FLAGS" for node in _parse(path)
        )
    ]
    assert len(readers) >= 8
    assert [_module(path) for path in readers if not _may_read_flags(path)] == []


def test_no_file_is_long():
    lines = {_module(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def _count_code_lines(function: ast.FunctionDef) -> int:
    """Counts the lines of a function without its decorators and its docstring."""
    first, last = function.lineno, function.end_lineno
    assert last is not None
    if ast.get_docstring(function):
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        first += docstring.end_lineno - docstring.lineno + 1
    return last - first + 1


def test_calls_are_clear():
    wrong = []
    for path in FILES:
        for node in _parse(path):
            if isinstance(node, ast.FunctionDef):
                positional = [*node.args.posonlyargs, *node.args.args]
                names = [a.arg for a in positional if a.arg not in ("self", "cls")]
                if len(names) > 5:
                    wrong.append((_module(path), node.name))
    assert wrong == []


def test_long_functions_have_a_reason():
    wrong = []
    for path in FILES:
        lines = path.read_text().splitlines()
        comments = [line for line in lines if line.startswith("# Longer")]
        long_functions = [
            node.name
            for node in _parse(path)
            if isinstance(node, ast.FunctionDef) and _count_code_lines(node) > 60
        ]
        if len(long_functions) > len(comments):
            wrong.append((_module(path), long_functions))
    assert wrong == []


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
