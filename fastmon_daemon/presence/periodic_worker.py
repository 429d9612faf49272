"""Periodic workers: small threads that each repeat one task, so that a task that hangs delays nothing else.

Their unexpected errors count in the daemon's health. `BestEffortCall` decides when a failed call is worth retrying.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeVar

from loguru import logger

from fastmon_daemon.base.backoff import Backoff, backoff
from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown, TransientError
from fastmon_daemon.base.text import count_of
from fastmon_daemon.monitor import RequestRejected

NO_SUCH_CALL_PAUSE_S = 3600.0
"""Seconds until the next attempt if the monitor does not have the call."""
LINK_DOWN_PAUSE_S = 5.0
"""Longest pause while the monitor cannot be reached: such a call costs nothing, and an outage may end at any time."""
_ERROR_PAUSES = Backoff(first_s=1.0, longest_s=30.0)
"""Pauses after unexpected errors in a row."""

T = TypeVar("T")


class WorkerErrors:
    """Unexpected errors of workers that go on: health is not OK until their next round succeeds.

    Thread-safe: each worker writes only its own entry.
    """

    def __init__(self) -> None:
        self._errors: dict[str, tuple[str, str]] = {}
        """Worker -> its error in full, and the error class."""

    def failed(self, worker: str, error: BaseException) -> None:
        """Record that a round of *worker* failed; log *error* unless it is known, also from another worker.

        An error without a message of ours is logged with its traceback, for each worker.
        """
        last, known = (repr(error), type(error).__name__), dict(self._errors)
        if known.get(worker) == last or (isinstance(error, FastmonError) and last in known.values()):
            pass
        elif isinstance(error, FastmonError):
            logger.bind(error=str(error)).error("{}: {}; repetitions are not logged", worker, error)
        else:
            logger.opt(exception=error).error("{}: unexpected error; repetitions are not logged", worker)
        self._errors[worker] = last

    def worked(self, worker: str) -> None:
        """Record that a round of *worker* succeeded; the last worker that had an error logs its end."""
        last = self._errors.pop(worker, None)
        if last and last not in dict(self._errors).values():
            logger.info("{}: works again", worker)

    def now(self) -> dict[str, str]:
        """Return worker -> error class, without the text: only the log redacts secrets."""
        return {worker: kind for worker, (_, kind) in dict(self._errors).items()}


class PeriodicWorker:
    """Repeats *tick*, which returns the seconds until the next tick. *on_stop* runs once, at the end."""

    def __init__(
        self,
        name: str,
        tick: Callable[[], float],
        on_stop: Callable[[], object] = lambda: None,
        *,
        errors: WorkerErrors,
    ) -> None:
        self._name = name
        self._tick = tick
        self._on_stop = on_stop
        self._errors = errors
        self._wake = threading.Event()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Tick now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the current tick; returns at once."""
        self.stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the thread; False if it still runs then. It is a daemon thread, so it does not delay the exit."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            pause_s = self._guarded(self._tick)
            failures = failures + 1 if pause_s is None else 0
            self._wake.wait(_ERROR_PAUSES.pause_s(failures, jitter=lambda: 1.0) if pause_s is None else pause_s)
            self._wake.clear()
        self._guarded(self._on_stop)

    def _guarded(self, call: Callable[[], T]) -> T | None:
        try:
            result = call()
        except (Exception, SystemExit) as exc:  # noqa: BLE001 (one tick may fail; the next one must come)
            self._errors.failed(self._name, exc)
            return None
        self._errors.worked(self._name)
        return result


class BestEffortCall:
    """Retry state of an optional call. Logs one warning when it begins to fail, and one line when it works again."""

    def __init__(self, name: str, monotonic: Callable[[], float], *, max_pause_s: float = math.inf) -> None:
        """The pause is *max_pause_s* at most, even if the monitor has no such call or sent `Retry-After`."""
        self._name = name
        self._monotonic = monotonic
        self._max_pause_s = max_pause_s
        self._not_before = monotonic()
        self._failures = 0
        self._warned = False

    @property
    def pause_s(self) -> float:
        """Seconds until the next attempt; 0: now."""
        return max(0.0, self._not_before - self._monotonic())

    def attempt(self, call: Callable[[], object]) -> bool:
        """Make *call* unless a pause is left; returns whether it succeeded."""
        if self.pause_s:
            return False
        try:
            call()
        except FastmonError as exc:
            self.failed(exc)
            return False
        self.succeeded()
        return True

    def succeeded(self) -> None:
        """Record a success."""
        if self._warned:
            failed = count_of(self._failures, "failure")
            logger.info("{}: the monitor accepts it again, after {}", self._name, failed)
        self._warned, self._failures = False, 0

    def failed(self, error: FastmonError, *, quietly: bool = False) -> None:
        """Record a failure and pause: an hour if the monitor has no such call. *quietly*: log no warning."""
        self._failures += 1
        absent = isinstance(error, RequestRejected) and error.endpoint_missing
        retry_after_s = error.retry_after_s if isinstance(error, TransientError) else None
        pause_s = backoff(self._failures, retry_after_s=retry_after_s).total_seconds()
        if isinstance(error, LinkDown) and not isinstance(error, LinkBlocked) and not retry_after_s:
            pause_s = min(pause_s, LINK_DOWN_PAUSE_S)
        pause_s = min(NO_SUCH_CALL_PAUSE_S if absent else pause_s, self._max_pause_s)
        self._not_before = self._monotonic() + pause_s
        if quietly or self._warned or isinstance(error, LinkDown):  # the engine logs a link that is down
            logger.debug("{}: {}", self._name, error)
            return
        self._warned = True
        why = ", it has no such call" if absent else ""
        bound = logger.bind(error=str(error))
        bound.warning("{}: not sent to the monitor{}: retrying in {:.0f} s: {}", self._name, why, pause_s, error)
