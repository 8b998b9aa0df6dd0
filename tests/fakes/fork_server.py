"""Runs commands in forks of one process, which has imported TensorFlow already.

A fork before TensorFlow's first operation is safe: only then it starts its threads.
Each command has its own flags, devices and strategy, as with `python -m`.

Usage: python fork_server.py. Each line of stdin is a job:
{"command": the arguments of Python, "kill": null or the fields of processes.Kill,
"environment": {NAME: VALUE}, "stdout": PATH, "stderr": PATH, "status": PATH}. A job
starts at once, beside those before it. Its process id is one line of stdout; its exit
status becomes the content of the file "status". The end of stdin ends this process.
"""

import importlib
import itertools
import json
import os
import pathlib
import runpy
import select
import sys
import threading
from collections.abc import Iterator

_SECONDS_BETWEEN_CHECKS = 0.02


def _install_kill(kill: dict) -> None:
    """Replaces a function by one that ends the process in one of its calls."""
    module_name, _, name = kill["function"].rpartition(".")
    module = importlib.import_module(module_name)
    original = getattr(module, name)
    matches = itertools.count(1)

    def send_signal() -> None:
        os.kill(os.getpid(), kill["signal_number"])

    def replacement(*args, **kwargs):
        words = " ".join(str(arg) for arg in args if isinstance(arg, str | os.PathLike))
        if kill["argument"] not in words or next(matches) != kill["call"]:
            return original(*args, **kwargs)
        if kill["seconds"]:
            timer = threading.Timer(kill["seconds"], send_signal)
            timer.daemon = True
            timer.start()
        elif not kill["after"]:
            send_signal()
        result = original(*args, **kwargs)
        if kill["after"]:
            if isinstance(result, Iterator):
                next(result)
            send_signal()
        return result

    setattr(module, name, replacement)


def _run_child(job: dict) -> None:
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        # Two streams can share one file.
        with open(job[name], "ab") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ.update(job["environment"])
    if job["kill"] is not None:
        _install_kill(job["kill"])
    command = job["command"]
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, "")  # A script replaces the first path.
    if command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def _write_status(path: str, status: int) -> None:
    aside = pathlib.Path(f"{path}.part")
    aside.write_text(str(os.waitstatus_to_exitcode(status)))
    aside.rename(path)


def main() -> None:
    """Runs the jobs of stdin; see the module."""
    import shallow_net  # Of the directory of this file.

    sys.path[0] = os.getcwd()  # As `python -m` does.
    from pipeline.system import console

    with console.quiet_tensorflow_import():
        from export.export_run import export_run  # noqa: F401
        from trainer import train  # noqa: F401
    shallow_net.register()
    running: dict[int, str] = {}
    # Not sys.stdin: a buffered line would not make the descriptor readable.
    pending = b""
    is_open = True
    while is_open or running:
        readable, _, _ = select.select(
            [0] if is_open else [], [], [], _SECONDS_BETWEEN_CHECKS
        )
        if readable:
            received = os.read(0, 1 << 16)
            is_open = bool(received)
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                job = json.loads(line)
                child = os.fork()
                if child == 0:
                    # It ends like any process: Python prints the error and runs exit
                    # handlers.
                    _run_child(job)
                    return
                running[child] = job["status"]
                os.write(1, f"{child}\n".encode())
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                _write_status(running.pop(child), status)


if __name__ == "__main__":
    main()
