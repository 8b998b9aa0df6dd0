"""Runs Python commands in processes of their own, as a user would."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


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
