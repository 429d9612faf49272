"""Shutdown from outside: signals, the time limit, a closed or blocked stdout."""

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

ERROR, AUTHENTICATION, UNREACHABLE, GAPS = 1, 3, 4, 5
"""Exit codes; 0 is success, 2 is a usage error."""
SIGNALS = {signal.SIGTERM: 0, signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGQUIT: 131}
"""Signals that stop the client, and the exit code of each."""
READER_TIMEOUT_S = 3.0
"""After a stop request, blocked output is discarded after this time."""

_WAKEUP_SIGNAL = signal.SIGURG
"""Interrupts a blocked write; without a handler it has no effect."""


@dataclass(slots=True)
class ShutdownReason:
    """Why the client was stopped from outside."""

    code: int = 0
    """Exit code of a signal."""
    timed_out: bool = False


@contextmanager
def shutdown_on(stop: Callable[[], None], after_s: float | None) -> Iterator[ShutdownReason]:
    """Call *stop* on one of `SIGNALS` or after *after_s* seconds; a second signal ends the process at once.

    A SIGHUP or SIGQUIT that is ignored (nohup, a script's `&`) stays so.
    Once stopped, blocked output is discarded after `READER_TIMEOUT_S`.
    """
    found = ShutdownReason()
    events: SimpleQueue[bool] = SimpleQueue()  # False: a signal; True: the block ended. Safe in a signal handler

    def on_signal(number: int, _frame: FrameType | None) -> None:
        found.code = SIGNALS[signal.Signals(number)]
        signal.signal(number, signal.SIG_DFL)
        events.put(False)
        stop()

    def wait() -> None:
        try:
            has_ended = events.get(timeout=after_s)
        except Empty:
            found.timed_out, has_ended = True, False
            stop()
        while not has_ended:
            try:
                has_ended = events.get(timeout=READER_TIMEOUT_S)
            except Empty:
                _discard_blocked_output()

    taken = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in taken}
    before[_WAKEUP_SIGNAL] = signal.signal(_WAKEUP_SIGNAL, lambda _number, _frame: None)
    threading.Thread(target=wait, name="shutdown", daemon=True).start()
    try:
        yield found
    finally:
        events.put(True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _discard_blocked_output() -> None:
    blocked = [out for out in (sys.stdout.fileno(), sys.stderr.fileno()) if not _poll(out, select.POLLOUT)]
    if not blocked:
        return
    _redirect_to_devnull(blocked)
    logger.warning("output is blocked: the rest is lost")  # before the writer goes on: the process may end with it
    for thread in threading.enumerate():  # restarts a blocked write, which then ends
        if thread.ident is not None:
            signal.pthread_kill(thread.ident, _WAKEUP_SIGNAL)


def watch_reader(on_gone: Callable[[str], None]) -> None:
    """Call *on_gone* with a reason when the reader of our stdout goes away, without waiting for the next message."""
    out = sys.stdout.fileno()

    def wait() -> None:
        _poll(out, 0, None)
        on_gone("its reader closed it")

    if stat.S_ISFIFO(os.fstat(out).st_mode):
        threading.Thread(target=wait, name="reader", daemon=True).start()


def _redirect_to_devnull(outs: Iterable[int]) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    for out in outs:
        os.dup2(devnull, out)
    os.close(devnull)


def _poll(out: int, events: int, timeout_ms: int | None = 0) -> bool:
    """Whether *out* has one of *events*, or a hang-up or error; None waits for it."""
    poller = select.poll()
    poller.register(out, events)
    return bool(poller.poll(timeout_ms))
