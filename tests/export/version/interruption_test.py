"""Kills an export at each kind of file operation."""

import json
import re

import fakes
import pytest
from fakes.serving import count_warm_up_requests

from export.checks.c_api_process import answer_with_c_api
from export.protocol import messages
from export.version import publish

# Runs in a process that has imported TensorFlow, and forks: each child exports, and is
# killed right before or right after the operation. The checks are left out: they write
# nothing.
DRIVER = """
import json, os, signal, sys

from export import export_run
from export.version import write

model_dir, export_dir, moments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
export_run.check_export = lambda *_: 0.0


def kill_at(module, name, when, path_part):
    function = getattr(module, name)

    def patched(*arguments, **options):
        # os.fsync has a descriptor, the others have paths.
        paths = [
            os.readlink(f"/proc/self/fd/{a}") if isinstance(a, int) else str(a)
            for a in arguments
        ]
        is_reached = any(path_part in path for path in paths)
        if is_reached and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if is_reached:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, patched)


for module, name, when, path_part in moments:
    child = os.fork()
    if child == 0:
        try:
            kill_at({"os": os, "write": write}[module], name, when, path_part)
            export_run.export_run(model_dir, export_dir)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    text = ""
    if os.path.exists(export_dir + "/models.config"):
        text = open(export_dir + "/models.config").read()
    print(json.dumps({
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
        "entries": sorted(os.listdir(export_dir)),
        "models.config": text,
    }))
"""

# (module, function, when, part of a path), and whether the version is there afterwards.
# Between two of them something else is on the disk.
MOMENTS = {
    ("write", "write_warmup", "before", "saved_model"): False,
    ("os", "replace", "before", "labels.txt"): False,
    ("os", "fsync", "before", "variables.data"): False,
    ("os", "rename", "before", "saved_model"): False,
    ("os", "rename", "after", "saved_model"): True,
    ("os", "replace", "after", "models.config"): True,
    ("os", "replace", "before", "summary.json"): True,
}


@pytest.mark.slow
def test_a_killed_export_leaves_whole_versions_or_none(shallow_run, tmp_path):
    export_dir = tmp_path / "export"
    moments = json.dumps(list(MOMENTS))
    arguments = ("-c", DRIVER, str(shallow_run), str(export_dir), moments)
    (done,) = fakes.run_forked([(arguments, None)], timeout_seconds=900)
    assert done.returncode == 0, done.stderr[-2000:]
    states = [json.loads(line) for line in done.stdout.splitlines() if line[0] == "{"]
    count = 0
    for (moment, is_published), state in zip(MOMENTS.items(), states, strict=True):
        assert state["killed"], (moment, done.stderr[-2000:])
        count += is_published
        versions = [name for name in state["entries"] if name.isdecimal()]
        assert len(versions) == count, moment
        labels = re.findall(r'" value: (\d+)', state["models.config"])
        assert set(labels) <= set(versions), moment
    done = fakes.run_fork(
        "-m", "export.main", f"--model_dir={shallow_run}", f"--export_dir={export_dir}"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    versions = publish.list_versions(export_dir)
    assert len(versions) == count + 1
    for version in versions:
        version_dir = export_dir / str(version)
        assert (
            answer_with_c_api(version_dir, [])["warmed_up"] == count_warm_up_requests()
        )
        assert (version_dir / "model_card.md").is_file()
        assert (version_dir / messages.WARMUP_FILE).is_file()
    assert (
        f'key: "stable" value: {versions[-1]}'
        in (export_dir / messages.MODELS_FILE).read_text()
    )
    hidden = [path.name for path in export_dir.iterdir() if path.name[0] == "."]
    assert [name for name in hidden if name.startswith(".next")] == []
