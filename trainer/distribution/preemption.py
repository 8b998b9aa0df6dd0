"""Stops a run on SIGTERM (preemption) or Ctrl-C, after the run has saved its state."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator


class Stopped(BaseException):
    """Ends the process after a signal; `signal_number` is that signal."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@dataclasses.dataclass(frozen=True, eq=False)
class StopSignal:
    """Records that the process was asked to stop.

    received: the numbers of the received signals; empty while the run goes on.
    deferring: while this event is set, a signal is recorded but raises nothing.
    """

    received: list[int] = dataclasses.field(default_factory=list)
    deferring: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def is_set(self) -> bool:
        """True after the first signal."""
        return bool(self.received)

    def make_exception(self) -> Stopped:
        """Returns the exception to raise: SIGTERM if another worker got the signal."""
        return Stopped((*self.received, signal.SIGTERM)[0])

    def check(self) -> None:
        """Raises Stopped if a signal was received."""
        if self.is_set:
            raise self.make_exception()


def install_handlers(stop_signal: StopSignal) -> None:
    """Makes SIGTERM and SIGINT raise Stopped: at once, or later if deferred.

    Call it again after TensorFlow has set up several workers: TensorFlow replaces the
    handler of SIGTERM by its own.
    """

    def receive(signal_number, frame):
        del frame
        if stop_signal.is_set:  # The second signal ends the process without saving.
            signal.signal(signal_number, signal.SIG_DFL)
            os.kill(os.getpid(), signal_number)
        stop_signal.received.append(signal_number)
        if not stop_signal.deferring.is_set():
            stop_signal.check()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, receive)


@contextlib.contextmanager
def defer(stop_signal: StopSignal) -> Iterator[None]:
    """Defers Stopped until check() is called or the outermost defer() block ends."""
    is_outermost = not stop_signal.deferring.is_set()
    stop_signal.deferring.set()
    try:
        yield
    finally:
        if is_outermost:
            stop_signal.deferring.clear()
    if is_outermost:
        stop_signal.check()
