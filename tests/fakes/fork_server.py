"""Runs commands in forks of one process, which has imported TensorFlow already.

A fork before TensorFlow's first operation is safe: only then it starts its threads.
Each command has its own flags, devices and strategy, as with `python -m`.

Usage: python fork_server.py DIRECTORY. DIRECTORY/jobs.json is a list of {"command":
[MODULE or SCRIPT.py, *FLAGS], "kill": null or the fields of processes.Kill}. Job N
writes N.stdout and N.stderr there. The exit statuses of all jobs are printed as a JSON
list.
"""

import importlib
import itertools
import json
import os
import pathlib
import runpy
import sys
import threading
from collections.abc import Iterator


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


def _run_child(job: dict, output: pathlib.Path) -> None:
    for descriptor, suffix in ((1, ".stdout"), (2, ".stderr")):
        with open(output.with_suffix(suffix), "wb") as file:
            os.dup2(file.fileno(), descriptor)
    if job["kill"] is not None:
        _install_kill(job["kill"])
    module, *arguments = job["command"]
    sys.argv = [module, *arguments]
    if module.endswith(".py"):
        sys.path.insert(0, "")  # A script replaces the first path.
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def main(directory: str) -> None:
    """Runs the jobs of directory/jobs.json; see processes.run_forked."""
    jobs = json.loads(pathlib.Path(directory, "jobs.json").read_text())
    sys.path[0] = os.getcwd()  # As `python -m` does.
    from pipeline.system import console

    with console.quiet_tensorflow_import():
        from export.export_run import export_run  # noqa: F401
        from trainer import train  # noqa: F401
    codes = []
    for number, job in enumerate(jobs):
        child = os.fork()
        if child == 0:
            # It ends like any process: Python prints the error and runs exit handlers.
            _run_child(job, pathlib.Path(directory, str(number)))
            return
        _, status = os.waitpid(child, 0)
        codes.append(os.waitstatus_to_exitcode(status))
    print(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1])
