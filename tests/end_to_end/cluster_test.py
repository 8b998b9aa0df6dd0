"""The files for Kubernetes and Slurm, as far as they go without either."""

import json
import os
import pathlib
import random
import socket
import subprocess
import sys

import fakes
import pytest
import yaml

from pipeline import prepare
from pipeline.loading import prepared_data

CLUSTER = fakes.REPOSITORY / "trainer" / "cluster"


@pytest.fixture
def arguments(tmp_path) -> list[str]:
    source = fakes.write_folder(tmp_path / "photos", per_class=25)
    prepare.prepare(str(source), str(tmp_path / "data"))
    return [
        "--regimes=head",
        "--head_epochs=1",
        # The chief decides the steps for both workers.
        "--minutes=1000",
        f"--data_dir={tmp_path / 'data'}",
        f"--model_dir={tmp_path / 'run'}",
    ]


def _free_neighbours() -> int:
    """A port of 20000 and more that is free and so is the next one."""
    # Tests that run beside this one look for ports too.
    for port in random.sample(range(20_000, 30_000, 10), 1000):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("localhost", port))
                second.bind(("localhost", port + 1))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def _environment(
    tmp_path: pathlib.Path,
    *,
    python: str = f'exec {sys.executable} "$@"',
    **variables: str,
) -> dict[str, str]:
    """With this Python as `python`, and what is in tmp_path/bin before all else.

    python: the shell commands that `python` stands for.
    """
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir(exist_ok=True)
    if not (bin_dir / "python").exists():
        (bin_dir / "python").write_text(f"#!/bin/sh\n{python}\n")
        (bin_dir / "python").chmod(0o755)
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": "", **variables}


def _assert_two_workers_trained(tmp_path: pathlib.Path) -> None:
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["replicas"] == 2
    assert config["steps"]["head"] > 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    test_count = prepared_data.read_info(str(tmp_path / "data")).counts["test"]
    assert summary["test"]["count"] == test_count


def test_the_kubernetes_objects_fit_together():
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    assert (service["kind"], service["apiVersion"]) == ("Service", "v1")
    assert (job["kind"], job["apiVersion"]) == ("Job", "batch/v1")
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    (workers,) = [e["value"] for e in container["env"] if e["name"] == "WORKERS"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(workers)
    (port,) = [port["port"] for port in service["spec"]["ports"]]
    names = f"{job['metadata']['name']}-%g.{service['metadata']['name']}:{port}"
    assert names in container["command"][2]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.slow
def test_the_kubernetes_command_walks_the_whole_way_with_two_processes(
    tmp_path, arguments
):
    _, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    port = _free_neighbours()
    shell, flag, script, name = container["command"]
    here = script.replace(
        "photographs-%g.photographs:2222", f"localhost:{str(port)[:-1]}%g"
    )
    assert here != script
    workers = []
    for index in range(2):
        with open(tmp_path / f"{index}.out", "w") as output:
            workers.append(
                subprocess.Popen(
                    # Each worker reads the weights of the backbone from a file.
                    [
                        *(shell, flag, here, name, *arguments),
                        *(*fakes.TINY_MODEL_FLAGS, "--weights=embedded"),
                    ],
                    cwd=fakes.REPOSITORY,
                    env=_environment(
                        tmp_path, WORKERS="2", JOB_COMPLETION_INDEX=str(index)
                    ),
                    stdout=output,
                )
            )
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    _assert_two_workers_trained(tmp_path)
    # The chief alone writes and exports.
    chief, other = ((tmp_path / f"{index}.out").read_text() for index in range(2))
    assert "2 replica(s)" in chief
    assert "serve:" in chief
    assert "serve:" not in other
    run_dir = tmp_path / "run"
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 1
    assert len(list((run_dir / "export").glob("[0-9]*"))) == 1
    assert (run_dir / "report.html").is_file()


@pytest.mark.slow
def test_the_slurm_script_trains_with_two_processes(tmp_path, arguments):
    script = CLUSTER / "slurm.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    environment = _environment(
        tmp_path,
        # In place of `python -m trainer.main`, which exports in the test above.
        python='test "$1 $2" = "-m trainer.main" && shift 2 && '
        f'exec {sys.executable} {fakes.TRAIN_ONLY} "$@"',
        SLURM_JOB_ID=str(_free_neighbours() - 20_000),
        SLURM_JOB_NODELIST="node[1-2]",
    )
    # What these two do on a cluster: name the hosts, start the command on each.
    commands = {
        "scontrol": 'test "$*" = "show hostnames node[1-2]" && '
        "echo localhost && echo localhost",
        "srun": 'shift; for i in 0 1; do SLURM_PROCID=$i "$@" & done; wait %1 && '
        "wait %2",
    }
    for name, body in commands.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    done = subprocess.run(
        ["bash", script, *arguments, *fakes.SHALLOW_MODEL_FLAGS],
        cwd=fakes.REPOSITORY,
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    _assert_two_workers_trained(tmp_path)
