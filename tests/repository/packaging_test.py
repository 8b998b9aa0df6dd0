"""Checks what is installed: requirements, package data, commands, image, automation."""

import ast
import functools
import importlib.metadata
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import venv

import fakes
import pytest
import setuptools
import yaml

from pipeline.system import versions

PACKAGES = ("pipeline", "trainer", "export")
# Other packages import these, without requiring them in their own metadata.
INDIRECT_REQUIREMENTS = {"importlib-resources", "tensorboard"}


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirement_names(requirements: list[str]) -> set[str]:
    return {_normalise(re.match(r"[\w.-]+", line)[0]) for line in requirements}


@pytest.fixture
def setup_arguments(monkeypatch) -> dict:
    """Returns the keyword arguments that setup.py passes to setuptools."""
    arguments = {}
    monkeypatch.setattr(setuptools, "setup", arguments.update)
    runpy.run_path(str(fakes.REPOSITORY / "setup.py"))
    return arguments


_find_distributions = functools.cache(importlib.metadata.packages_distributions)


def _imported_modules(folder: pathlib.Path) -> set[str]:
    """Returns the top-level modules of other projects that a folder imports."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    test_modules = {path.stem for path in (fakes.REPOSITORY / "tests").rglob("*.py")}
    local_names = {*PACKAGES, "fakes", *test_modules}
    return names - set(sys.stdlib_module_names) - local_names


def _undeclared_modules(modules: set[str], declared: set[str]) -> set[str]:
    distributions = _find_distributions()
    return {
        module
        for module in modules
        if not declared & {_normalise(name) for name in distributions.get(module, ())}
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_each_import_of_a_package_is_a_requirement(package, setup_arguments):
    extras = setup_arguments["extras_require"]
    declared = _requirement_names(
        setup_arguments["install_requires"]
        + [*extras["beam"], *extras["heif"], *extras["serve"], *extras["trust"]]
    )
    modules = _imported_modules(fakes.REPOSITORY / package)
    assert modules, package
    assert _undeclared_modules(modules, declared) == set()


def test_each_import_of_a_test_is_a_requirement(setup_arguments):
    declared = _requirement_names(
        setup_arguments["install_requires"] + setup_arguments["extras_require"]["dev"]
    )
    modules = _imported_modules(fakes.REPOSITORY / "tests")
    assert _undeclared_modules(modules, declared) == set()


def test_each_requirement_is_imported(setup_arguments):
    distributions = _find_distributions()
    imported = {
        _normalise(name)
        for package in PACKAGES
        for module in _imported_modules(fakes.REPOSITORY / package)
        for name in distributions[module]
    }
    required = _requirement_names(setup_arguments["install_requires"])
    assert required - imported == INDIRECT_REQUIREMENTS


def test_the_installed_packages_are_in_the_required_ranges(setup_arguments):
    # pip is the judge; it compares without any download.
    requirements = setup_arguments["install_requires"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install"),
            *("--no-index", "--no-deps", "--dry-run", *requirements),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_setup_reads_the_version_of_the_project(setup_arguments):
    assert setup_arguments["version"] == versions.PROJECT_VERSION


def test_the_image_of_the_cluster_is_the_one_that_the_dockerfile_builds():
    dockerfile = (fakes.REPOSITORY / "Dockerfile").read_text()
    manifest = fakes.REPOSITORY / "trainer" / "cluster" / "kubernetes.yaml"
    _, job = yaml.safe_load_all(manifest.read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    image = f"photograph-classifier:{versions.PROJECT_VERSION}"
    assert container["image"] == image
    for text in (dockerfile, manifest.read_text()):
        tags = re.findall(r"docker build --tag (\S+)", text)
        assert tags
        assert set(tags) == {image}


def test_the_dockerfile_copies_what_the_build_needs():
    dockerfile = (fakes.REPOSITORY / "Dockerfile").read_text()
    copied = {
        name
        for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
        for name in line.split()
    }
    assert copied == {*PACKAGES, "setup.py", "pyproject.toml", "README.md", "LICENSE"}
    ignored = (fakes.REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_the_entry_point_of_the_image_is_a_command(setup_arguments):
    dockerfile = (fakes.REPOSITORY / "Dockerfile").read_text()
    (name,) = re.findall(r'^ENTRYPOINT \["(.+)"\]$', dockerfile, re.MULTILINE)
    scripts = setup_arguments["entry_points"]["console_scripts"]
    assert name in {line.split(" = ")[0] for line in scripts}


def test_the_workflow_calls_targets_that_exist(setup_arguments):
    makefile = (fakes.REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    path = fakes.REPOSITORY / ".github" / "workflows" / "ci.yml"
    jobs = yaml.safe_load(path.read_text())["jobs"]
    for job in jobs.values():
        assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands
        for command in commands:
            if command.startswith("make "):
                assert command.removeprefix("make ") in targets
            else:
                assert os.access(fakes.REPOSITORY / command, os.X_OK)
    assert setup_arguments["python_requires"] == ">=3.11,<3.13"


def test_the_hooks_before_a_commit_are_the_linters():
    path = fakes.REPOSITORY / ".pre-commit-config.yaml"
    _, local = yaml.safe_load(path.read_text())["repos"]
    hooks = {hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]}
    makefile = (fakes.REPOSITORY / "Makefile").read_text()
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    linters = {line.removeprefix("\t$(VENV)/bin/") for line in recipe.splitlines()}
    assert {hook.split(" --")[0] for hook in hooks} == {
        linter.removesuffix(" .").split(" --")[0] for linter in linters
    }


def _package_files(folder: pathlib.Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for package in PACKAGES
        for path in (folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> pathlib.Path:
    """Installs the wheel into a new environment that borrows the other packages.

    Nothing is downloaded: a .pth file adds the packages of this environment.
    """
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(fakes.REPOSITORY / name, source)
    for package in PACKAGES:
        shutil.copytree(
            fakes.REPOSITORY / package,
            source / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [
            *(*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation"),
            *(f"--wheel-dir={folder}", str(source)),
        ],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    target = folder / "environment"
    venv.create(target, with_pip=False)
    python = str(target / "bin" / "python")
    subprocess.run(
        [*pip, "--python", python, "install", "--no-index", "--no-deps", str(wheel)],
        check=True,
    )
    site_packages = pathlib.Path(pytest.__file__).parent.parent
    (_site_packages(target) / "borrowed.pth").write_text(f"{site_packages}\n")
    return target


def _site_packages(environment: pathlib.Path) -> pathlib.Path:
    (path,) = environment.glob("lib/python*/site-packages")
    return path


def _run(
    environment: pathlib.Path, *command: str, cwd: pathlib.Path
) -> subprocess.CompletedProcess[str]:
    """Runs a program of the environment in a folder far from the repository."""
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONSAFEPATH": "1"}
    variables.pop("PYTHONPATH", None)  # It could name the repository.
    return subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(environment):
    installed = _package_files(_site_packages(environment))
    assert installed == _package_files(fakes.REPOSITORY)
    assert {f"{package}/py.typed" for package in PACKAGES} <= installed
    assert "trainer/cluster/kubernetes.yaml" in installed
    assert "trainer/embedded/mobilenet_025.weights.h5" in installed
    assert any(re.fullmatch(r"trainer/recipes/.+\.flags", name) for name in installed)
    assert "pipeline/system/templates/page.html" in installed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "script", "flag"),
    [
        ("pipeline.main", "photograph-prepare", "--source"),
        ("trainer.main", "photograph-train", "--model_dir"),
        ("trainer.compare", "photograph-compare", "--out"),
        ("export.main", "photograph-export", "--export_dir"),
        ("export.serve", "photograph-serve", "--rest_port"),
        ("export.client", "photograph-classify", "--server"),
        ("export.drift", "photograph-drift", "--fail_below"),
        ("export.demo", "photograph-demo", "--backbone"),
    ],
)
def test_modules_and_console_scripts_print_the_same_help(
    environment, tmp_path, module, script, flag
):
    by_module = _run(environment, "python", "-m", module, "--help", cwd=tmp_path)
    by_script = _run(environment, script, "--help", cwd=tmp_path)
    for done in (by_module, by_script):
        assert f"\n  {flag}:" in done.stdout, done.stderr
        assert "USAGE:" not in done.stdout  # of absl, where there is no docstring
    assert f"python -m {module}" in by_module.stdout
    assert f"python -m {module}" not in by_script.stdout
    assert script in by_script.stdout.split("flags:")[0]


@pytest.mark.slow
def test_the_installed_package_prepares_photographs(environment, tmp_path):
    fakes.write_folder(tmp_path / "photos", per_class=25)
    done = _run(
        *(environment, "python", "-m", "pipeline.main"),
        *("--source=photos", "--out=data"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "dataset_info.json").is_file()
    assert "</html>" in (tmp_path / "data" / "audit.html").read_text()
