"""Runs Python commands in processes of their own, as a user would, and kills them."""

import atexit
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
# A command that takes the flags of trainer.main and writes no report and no export.
# With the flag --epochs_only it does not evaluate the best weights either.
TRAIN_ONLY = str(REPOSITORY / "tests" / "fakes" / "train_only.py")


def run(
    *arguments: str,
    timeout_seconds: float = 600,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Runs a Python command line in the repository, as a user would.

    environment: variables beside those of this process.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **(environment or {})},
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


class Forked:
    """A Python command line that runs in a fork of one process; see fork_server.py.

    pid: its process.
    stdout, stderr: the files that it prints to.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        kill: Kill | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        directory = pathlib.Path(tempfile.mkdtemp(dir=_output_directory()))
        self._status = directory / "status"
        self.stdout, self.stderr = directory / "stdout", directory / "stderr"
        job = {
            "command": list(command),
            "kill": kill and dataclasses.asdict(kill),
            "environment": {**os.environ, **(environment or {})},
            "stdout": str(self.stdout),
            "stderr": str(self.stderr),
            "status": str(self._status),
        }
        server = _fork_server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def poll(self) -> int | None:
        """Returns the exit status, or None while the command runs."""
        return int(self._status.read_text()) if self._status.exists() else None

    def wait(self, timeout: float = 600) -> int:
        """Waits for the end and returns the exit status."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal, if the command still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the command at once."""
        self.send_signal(signal.SIGKILL)

    @property
    def log(self) -> str:
        """What the command has printed so far: first stdout, then stderr."""
        files = (self.stdout, self.stderr)
        return "".join(path.read_text() for path in files if path.exists())


@functools.cache
def _output_directory() -> str:
    """Makes a directory for what the commands print; it ends with this process."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@functools.cache
def _fork_server() -> subprocess.Popen:
    """Starts the process that forks; it ends with this one."""
    server = subprocess.Popen(
        [sys.executable, str(pathlib.Path(__file__).with_name("fork_server.py"))],
        cwd=REPOSITORY,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def run_forked(
    jobs: Sequence[tuple[Sequence[str], Kill | None]], *, timeout_seconds: float = 900
) -> list[subprocess.CompletedProcess]:
    """Runs command lines one after another in forks of one process.

    TensorFlow is imported once for all of them. Otherwise each command runs as with
    `run(*command)`.

    Args:
      jobs: each command, and when it is killed.
    """
    done = []
    for command, kill in jobs:
        forked = Forked(command, kill=kill)
        try:
            status = forked.wait(timeout_seconds)
        finally:
            forked.kill()
        done.append(
            subprocess.CompletedProcess(
                command, status, forked.stdout.read_text(), forked.stderr.read_text()
            )
        )
    return done


def run_fork(*command: str) -> subprocess.CompletedProcess:
    """Runs one command line in a fork; see run_forked."""
    return run_forked([(command, None)])[0]


@contextlib.contextmanager
def start_workers(*commands: Sequence[str]) -> Iterator[list[Forked]]:
    """Starts command lines as the workers of one cluster, the chief first.

    At the end of the block none of them is left.
    """
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in commands]
        for probe in probes:
            probe.bind(("localhost", 0))
        hosts = [f"localhost:{probe.getsockname()[1]}" for probe in probes]
    workers = []
    try:
        for index, command in enumerate(commands):
            task = {"type": "worker", "index": index}
            tf_config = json.dumps({"cluster": {"worker": hosts}, "task": task})
            workers.append(Forked(command, environment={"TF_CONFIG": tf_config}))
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def run_workers(*commands: Sequence[str]) -> tuple[list[int], list[str]]:
    """Runs command lines as the workers of one cluster, the chief first.

    Returns:
      each one's exit status, and all that it said.
    """
    with start_workers(*commands) as workers:
        codes = [worker.wait() for worker in workers]
        return codes, [worker.log for worker in workers]
