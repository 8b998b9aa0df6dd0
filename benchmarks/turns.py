"""Lets contestants take turns: each is a process that stops between its turns.

A script calls answer() in its contestant processes, and start(), take_turn() and stop()
in the process that compares them.
"""

import json
import os
import signal
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def answer(measure):
    """Prints measure(), a number, for each line on standard input."""
    for _ in sys.stdin:
        # On the last line: some contestants print.
        print(json.dumps(measure()), flush=True)


def time_epochs(run_epoch, least_seconds):
    """Returns epochs a second, over as many epochs as take this time, after one more.

    The first one is not timed, so that nothing lies ready.
    """
    run_epoch()
    epochs, start = 0, time.monotonic()
    while (seconds := time.monotonic() - start) < least_seconds:
        run_epoch()
        epochs += 1
    return epochs / seconds


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, script, "--answer", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def take_turn(process):
    """Stopped afterwards: what it reads ahead would take the next one's time."""
    os.killpg(process.pid, signal.SIGCONT)
    process.stdin.write("\n")
    process.stdin.flush()
    while True:
        line = process.stdout.readline()
        try:
            found = json.loads(line)
        except ValueError:
            if not line:
                raise SystemExit(f"{process.args} ended early") from None
        else:
            os.killpg(process.pid, signal.SIGSTOP)
            return found


def stop(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
