"""Runs Python commands in processes of their own, as a user would, and kills them."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
# A command that takes the flags of trainer.main and does not export.
TRAIN_ONLY = str(REPOSITORY / "tests" / "fakes" / "train_only.py")


def run(*arguments: str, timeout_seconds: float = 300) -> subprocess.CompletedProcess:
    """Runs a Python command line in the repository, as a user would."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


@dataclasses.dataclass(frozen=True)
class Kill:
    """The moment in which a command is killed: in one call of a function.

    function: its full name, such as os.replace, which pathlib calls too.
    argument: counts only calls with this text in an argument that is text or a path.
    call: the number of the call, from 1.
    after: send the signal after the call, not before it; of a generator, after its
      first item.
    seconds: send the signal this long after the beginning of the call.
    signal_number: the signal.
    """

    function: str
    argument: str = ""
    call: int = 1
    after: bool = False
    seconds: float = 0.0
    signal_number: int = signal.SIGKILL


def run_forked(
    jobs: Sequence[tuple[Sequence[str], Kill | None]], *, timeout_seconds: float = 550
) -> list[subprocess.CompletedProcess]:
    """Runs command lines one after another in forks of one process.

    TensorFlow is imported once for all of them. Otherwise each command runs as with
    `run("-m", *command)`.

    Args:
      jobs: the module (or the path of a script) and the flags of each command, and when
        it is killed.
    """
    script = pathlib.Path(__file__).with_name("fork_server.py")
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        described = [
            {"command": command, "kill": kill and dataclasses.asdict(kill)}
            for command, kill in jobs
        ]
        (directory / "jobs.json").write_text(json.dumps(described))
        server = run(str(script), name, timeout_seconds=timeout_seconds)
        assert server.returncode == 0, server.stderr[-3000:]
        return [
            subprocess.CompletedProcess(
                command,
                returncode,
                (directory / f"{number}.stdout").read_text(),
                (directory / f"{number}.stderr").read_text(),
            )
            for number, ((command, _), returncode) in enumerate(
                zip(jobs, json.loads(server.stdout), strict=True)
            )
        ]


def run_workers(*commands: Sequence[str]) -> tuple[list[int], list[str]]:
    """Runs Python command lines as the workers of one cluster, the chief first.

    Returns:
      each one's exit status, and all that it said.
    """
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in commands]
        for probe in probes:
            probe.bind(("localhost", 0))
        hosts = [f"localhost:{probe.getsockname()[1]}" for probe in probes]
    with contextlib.ExitStack() as stack:
        processes, logs = [], []
        # Of a cluster that hangs none is left behind.
        stack.callback(lambda: [process.kill() for process in processes])
        for index, command in enumerate(commands):
            task = {"type": "worker", "index": index}
            tf_config = json.dumps({"cluster": {"worker": hosts}, "task": task})
            logs.append(stack.enter_context(tempfile.TemporaryFile("w+")))
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    cwd=REPOSITORY,
                    env={
                        **os.environ,
                        "CUDA_VISIBLE_DEVICES": "",
                        "TF_CONFIG": tf_config,
                    },
                    stdout=logs[-1],
                    stderr=subprocess.STDOUT,
                )
            )
        codes = [process.wait(timeout=300) for process in processes]
        for log in logs:
            log.seek(0)
        outputs = [log.read() for log in logs]
    return codes, outputs
