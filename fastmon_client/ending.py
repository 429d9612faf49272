"""What ends the client from outside: signals, the time that was set, a reader of the output that goes away."""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

INTERRUPTED = 130


@dataclass(slots=True)
class Ending:
    """Why it was stopped from outside."""

    code: int = 0
    """The exit code that follows from a signal."""
    timed_out: bool = False


@contextmanager
def ending(stop: Callable[[], None], after_s: float | None) -> Iterator[Ending]:
    """Inside it, SIGINT, SIGTERM and *after_s* seconds call *stop*; a second signal ends the process at once."""
    found = Ending()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        found.code = INTERRUPTED if number == signal.SIGINT else 0
        signal.signal(number, signal.SIG_DFL)
        stop()

    def on_time() -> None:
        found.timed_out = True
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    timer = threading.Timer(after_s or 0, on_time)
    timer.daemon = True
    if after_s is not None:
        timer.start()
    try:
        yield found
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_without_reader(stop: Callable[[], None]) -> None:
    """Call *stop* as soon as nobody reads our stdout: `| head -1` need not wait for the next message."""
    out = sys.stdout.fileno()
    if stat.S_ISFIFO(os.fstat(out).st_mode):
        threading.Thread(target=_stop_on_hang_up, args=(out, stop), name="reader", daemon=True).start()


def _stop_on_hang_up(out: int, stop: Callable[[], None]) -> None:
    watch = select.poll()
    watch.register(out, 0)  # errors only, among them that the pipe has lost its reader
    watch.poll()
    stop()


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """Inside it, a pipe that nobody reads any more is no error; what is written later goes nowhere."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for closed in (sys.stdout, sys.stderr):
            if _has_no_reader(closed.fileno()):
                os.dup2(nowhere, closed.fileno())
        os.close(nowhere)


def _has_no_reader(out: int) -> bool:
    watch = select.poll()
    watch.register(out, 0)
    return bool(watch.poll(0))
