"""The files for Kubernetes and Slurm, as far as they go without either."""

import json
import os
import pathlib
import subprocess

import fakes
import pytest
import yaml
from fakes import shallow_net

from pipeline.loading import prepared_data

CLUSTER = fakes.REPOSITORY / "trainer" / "cluster"


def _write_programs(tmp_path: pathlib.Path, **programs: str) -> dict[str, str]:
    """Writes shell programs; returns an environment that finds them before all others.

    python: writes its TF_CONFIG and its arguments to a file instead of running them.
    """
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    python = (
        f'printf "%s\\0" "$TF_CONFIG" "$@" > {tmp_path}/$$.call; exit ${{STATUS:-0}}'
    )
    for name, body in {"python": python, **programs}.items():
        (bin_dir / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_dir / name).chmod(0o755)
    return {**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}


def _read_calls(tmp_path: pathlib.Path) -> list[tuple[dict, list[str]]]:
    """Returns TF_CONFIG and arguments of each call of `python`, in order of workers."""
    calls = []
    for path in tmp_path.glob("*.call"):
        tf_config, *arguments = path.read_text().split("\0")[:-1]
        calls.append((json.loads(tf_config), arguments))
    return sorted(calls, key=lambda call: call[0]["task"]["index"])


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
def test_two_workers_with_the_commands_of_kubernetes_walk_the_whole_way(
    tmp_path, data_dir
):
    _, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    shallow_net.register()
    weights = tmp_path / "backbone.weights.h5"
    fakes.make_classifier("ShallowNet").backbone.save_weights(weights)
    run_dir = tmp_path / "run"
    arguments = [
        *(*fakes.SHALLOW_MODEL_FLAGS, "--regimes=head", "--head_epochs=1"),
        "--minutes=1000",  # The chief decides the steps for both workers.
        # Each worker reads the weights of the backbone from a file.
        *(f"--weights={weights}", f"--data_dir={data_dir}", f"--model_dir={run_dir}"),
    ]
    environment = {**_write_programs(tmp_path), "WORKERS": "2"}
    for index in range(2):
        subprocess.run(
            [*container["command"], *arguments],
            env={**environment, "JOB_COMPLETION_INDEX": str(index)},
            check=True,
        )
    calls = _read_calls(tmp_path)
    hosts = [f"photographs-{index}.photographs:2222" for index in range(2)]
    assert calls == [
        (
            {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}},
            ["-m", "trainer.main", *arguments],
        )
        for index in range(2)
    ]
    # The same calls, with other names of the hosts.
    codes, (chief, other) = fakes.run_workers(*(command for _, command in calls))
    assert codes == [0, 0], chief + other
    config = json.loads((run_dir / "config.json").read_text())
    assert config["replicas"] == 2
    assert config["steps"]["head"] > 0
    summary = json.loads((run_dir / "summary.json").read_text())
    test_count = prepared_data.read_info(data_dir).counts["test"]
    assert summary["test"]["count"] == test_count
    # The chief alone writes and exports.
    assert "2 replica(s)" in chief
    assert "serve:" in chief
    assert "serve:" not in other
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 1
    assert len(list((run_dir / "export").glob("[0-9]*"))) == 1
    assert (run_dir / "report.html").is_file()


# What Slurm's programs do: name the hosts, start a command on each, queue a job again.
_SLURM = {
    "scontrol": """
if [ "$1 $2" = "show hostnames" ]; then
  test "$3" = "node[1-2]" && echo node1 && echo node2
else
  echo "$@" >> "$REQUEUED"
fi""",
    "srun": """
[ "$1" = --kill-on-bad-exit=1 ] || exit 64
shift
for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@" || status=$?; done
exit ${status:-0}""",
}


@pytest.mark.parametrize("status", [0, 1, 143])
def test_slurm_starts_the_workers_and_queues_a_stopped_run_again(tmp_path, status):
    script = CLUSTER / "slurm.sh"
    arguments = ["--data_dir=DATA", "--model_dir=a directory", "--head_epochs=1"]
    requeued = tmp_path / "requeued"
    environment = {
        **_write_programs(tmp_path, **_SLURM),
        "SLURM_JOB_ID": "1027031",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "REQUEUED": str(requeued),
        "STATUS": str(status),
    }
    done = subprocess.run(["bash", script, *arguments], env=environment, check=False)
    assert done.returncode == status
    # The number of the job decides the ports.
    hosts = ["node1:27031", "node2:27032"]
    assert _read_calls(tmp_path) == [
        (
            {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}},
            ["-m", "trainer.main", *arguments],
        )
        for index in range(2)
    ]
    # Only a run that SIGTERM has stopped can be continued.
    expected = "requeue 1027031\n" if status == 143 else ""
    assert (requeued.read_text() if requeued.exists() else "") == expected
