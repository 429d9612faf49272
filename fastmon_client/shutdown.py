"""What ends the client from outside: signals, the time that was set, a reader of the output that goes away.

And that the end comes, though a reader of the output stands still.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType

from loguru import logger

ERROR, AUTHENTICATION, UNREACHABLE, GAPS, INTERRUPTED = 1, 3, 4, 5, 130
"""The exit codes of the client; 0 is a good end, 2 is wrong usage."""
READER_PATIENCE_S = 3.0
"""So long after the end was asked for, a reader that stands still is waited for."""

_WAKING = signal.SIGURG
"""Does nothing to who does not handle it."""


@dataclass(slots=True)
class ShutdownReason:
    """Why it was stopped from outside."""

    code: int = 0
    """The exit code that follows from a signal."""
    timed_out: bool = False


@contextmanager
def shutdown_on(stop: Callable[[], None], after_s: float | None) -> Iterator[ShutdownReason]:
    """Inside it, SIGINT, SIGTERM and *after_s* seconds call *stop*; a second signal ends the process at once.

    From then on no output is waited for that nobody reads.
    """
    found = ShutdownReason()
    news: SimpleQueue[bool] = SimpleQueue()  # False: a signal came; True: we have left. A handler may always touch it

    def on_signal(number: int, _frame: FrameType | None) -> None:
        found.code = INTERRUPTED if number == signal.SIGINT else 0
        signal.signal(number, signal.SIG_DFL)
        news.put(False)
        stop()

    def wait() -> None:
        try:
            has_left = news.get(timeout=after_s)
        except Empty:
            found.timed_out, has_left = True, False
            stop()
        while not has_left:
            try:
                has_left = news.get(timeout=READER_PATIENCE_S)
            except Empty:
                _give_up_what_nobody_reads()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    before[_WAKING] = signal.signal(_WAKING, lambda _number, _frame: None)
    threading.Thread(target=wait, name="ending", daemon=True).start()
    try:
        yield found
    finally:
        news.put(True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_up_what_nobody_reads() -> None:
    full = [out for out in (sys.stdout.fileno(), sys.stderr.fileno()) if not _takes_more(out)]
    if not full:
        return
    _lead_nowhere(full)
    for thread in threading.enumerate():  # a write that waits begins anew, and ends
        if thread.ident is not None:
            signal.pthread_kill(thread.ident, _WAKING)
    logger.warning("the reader of the output stands still: the last of it is lost")


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
        _lead_nowhere([out for out in (sys.stdout.fileno(), sys.stderr.fileno()) if _has_no_reader(out)])


def _lead_nowhere(outs: Iterable[int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for out in outs:
        os.dup2(nowhere, out)
    os.close(nowhere)


def _has_no_reader(out: int) -> bool:
    watch = select.poll()
    watch.register(out, 0)
    return bool(watch.poll(0))


def _takes_more(out: int) -> bool:
    watch = select.poll()
    watch.register(out, select.POLLOUT)
    return bool(watch.poll(0))
