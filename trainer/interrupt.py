"""SIGTERM, as a preempted machine gets it, and Ctrl-C: save what there is and end."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator


class Stopped(BaseException):
    """Somebody asked the process to end; signal_number is how."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@dataclasses.dataclass(frozen=True)
class Requests:
    """requested holds the signal's number; while busy is set, nothing is raised."""

    requested: list[int] = dataclasses.field(default_factory=list)
    busy: threading.Event = dataclasses.field(default_factory=threading.Event)

    def stopped(self) -> Stopped:
        """What to raise, also where another worker was asked."""
        return Stopped((*self.requested, signal.SIGTERM)[0])

    def check(self) -> None:
        """Raises Stopped if that was asked for."""
        if self.requested:
            raise self.stopped()


def listen(requests: Requests) -> None:
    """From now on SIGTERM and SIGINT raise Stopped, at once unless busy.

    To be called again once TensorFlow has set up several workers: its own handler of
    SIGTERM takes the place of ours.
    """

    def receive(signal_number, frame):
        del frame
        if requests.requested:  # the second time: end, whatever it costs
            signal.signal(signal_number, signal.SIG_DFL)
            os.kill(os.getpid(), signal_number)
        requests.requested.append(signal_number)
        if not requests.busy.is_set():
            requests.check()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)


@contextlib.contextmanager
def busy(requests: Requests) -> Iterator[None]:
    """Puts off what was asked for until check(), or the end of the outermost busy()."""
    outermost = not requests.busy.is_set()
    requests.busy.set()
    try:
        yield
    finally:
        if outermost:
            requests.busy.clear()
    if outermost:
        requests.check()
