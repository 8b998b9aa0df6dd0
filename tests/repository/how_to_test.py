"""Applies the code of the how-to pages to a copy of the project and tests it."""

import pathlib
import re
import shutil
import textwrap

import fakes
import pytest

pytestmark = pytest.mark.slow

_PYTHON_BLOCK = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def _read_blocks(page: str) -> list[str]:
    text = (fakes.REPOSITORY / "docs" / "how-to" / page).read_text()
    return [textwrap.dedent(block) for block in _PYTHON_BLOCK.findall(text)]


@pytest.fixture
def copy(tmp_path) -> pathlib.Path:
    """A copy of the project, without what is built or installed."""
    root = tmp_path / "project"
    for name in ("pipeline", "trainer", "export", "tests", "docs"):
        shutil.copytree(
            fakes.REPOSITORY / name,
            root / name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(fakes.REPOSITORY / "pyproject.toml", root)
    return root


def _replace(path: pathlib.Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path.name, old)
    path.write_text(text.replace(old, new))


def _insert_before(path: pathlib.Path, anchor: str, block: str, indent: int) -> None:
    _replace(path, anchor, textwrap.indent(block, " " * indent) + anchor)


def _append(path: pathlib.Path, block: str) -> None:
    path.write_text(f"{path.read_text()}\n\n{block}")


# Runs pytest in a fork that keeps TensorFlow, but no module of this project.
_SCRIPT = """
import os, sys

for name in list(sys.modules):
    if name.partition(".")[0] in ("pipeline", "trainer", "export", "shallow_net"):
        del sys.modules[name]
os.chdir(sys.argv[1])
sys.path[:] = [path for path in sys.path if path not in ("", sys.argv[2])]
os.environ.pop("PYTHONPATH", None)
import pytest

arguments = ["-q", "-n0", "-p", "no:cacheprovider", *sys.argv[3:]]
sys.exit(pytest.main(arguments))
"""


def _run_pytest(root: pathlib.Path, *arguments: str, passed: int) -> None:
    done = fakes.run_fork("-c", _SCRIPT, str(root), str(fakes.REPOSITORY), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= passed, done.stdout


def test_add_a_source(copy):
    source, branch, test = _read_blocks("add-a-source.md")
    folder = copy / "pipeline" / "sources"
    (folder / "json_file.py").write_text(source)
    listing = folder / "listing.py"
    _replace(
        listing,
        "import Listing, SourceImage\n",
        "import Listing, SourceImage\n"
        "from pipeline.sources.json_file import list_json\n",
    )
    check = folder / "check_source.py"
    _replace(check, '("kaggle", "tfds")', '("kaggle", "tfds", "json")')
    _insert_before(listing, "    elif os.path.isdir(source):\n", branch, 4)
    path = "tests/pipeline/sources/json_file_test.py"
    (copy / path).write_text(test)
    _run_pytest(copy, path, passed=2)


def test_add_an_augmentation(copy):
    field, preset, function, augment, tests = _read_blocks("add-an-augmentation.md")
    folder = copy / "pipeline" / "augmentation"
    presets = folder / "presets.py"
    _replace(
        presets,
        "    hue: float = 0.0\n",
        f"    hue: float = 0.0\n    {field.strip()}\n",
    )
    _insert_before(presets, '    "none": Preset(),\n', preset, 4)
    _append(folder / "color.py", function)
    augmenter = folder / "augmenter.py"
    _replace(
        augmenter, "import adjust_colors\n", "import adjust_colors, scale_channels\n"
    )
    before, _, _ = augmenter.read_text().partition("    def augment(images")
    augmenter.write_text(
        f"{before}{textwrap.indent(augment, '    ')}\n    return augment\n"
    )
    path = "tests/pipeline/augmentation/augmenter_test.py"
    _append(copy / path, tests)
    _run_pytest(copy, path, "-k", "own_gain or own_colour", passed=2)


def test_add_a_regime(copy):
    names, fields, regime, test = _read_blocks("add-a-regime.md")
    folder = copy / "trainer" / "config"
    known = 'KNOWN_REGIMES = ("head", "finetune", "top", "all")\n'
    _replace(folder / "regime_specs.py", known, names)
    config = folder / "train_config.py"
    _insert_before(config, "    label_smoothing: float = flag(", fields, 4)
    _replace(
        folder / "checks.py",
        '    "finetune_lr",\n',
        '    "finetune_lr",\n    "full_epochs",\n    "full_lr",\n',
    )
    _insert_before(folder / "regimes.py", "    }\n    specs = [parse_spec", regime, 8)
    _append(copy / "tests/trainer/config/flags_test.py", test)
    _run_pytest(copy, "tests/trainer/config", passed=20)


def test_add_a_signature(copy):
    blocks = _read_blocks("add-a-signature.md")
    declaration, function, warmup, request, check, test = blocks
    export = copy / "export"
    signatures = export / "graph" / "signatures.py"
    _insert_before(
        signatures,
        "    }\n\n\ndef hold_variables",
        declaration,
        8,
    )
    _insert_before(signatures, "    functions = (", f"{function}\n", 4)
    _replace(
        signatures, "predict_pixels, features)", "predict_pixels, features, top_two)"
    )
    _insert_before(
        export / "version" / "warmup.py",
        "        _classify_log([example] * batch_size),\n",
        warmup,
        8,
    )
    _insert_before(
        export / "checks" / "check_requests.py",
        '        "features": _predict(mixed, "features"),\n',
        request,
        8,
    )
    _insert_before(
        export / "checks" / "reply_checks.py",
        "\n\ndef _find_bad_image_problems(",
        check,
        4,
    )
    path = "tests/export/graph/signatures_test.py"
    _append(copy / path, test)
    # The second file writes a version, which passes the checks with the new signature.
    checks = "tests/export/checks/check_export_test.py"
    _run_pytest(copy, path, checks, "-k", "top_two or good_export", passed=2)
