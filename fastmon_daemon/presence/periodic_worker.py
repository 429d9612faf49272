"""A lane: one small thread that does one thing again and again, so that what hangs there holds up nothing else.

Its unexpected errors are kept for whoever tells how we are. And a courtesy: a call that the main job can do without;
whether it is worth trying now. None of them knows what is done.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from loguru import logger

from fastmon_daemon.base.backoff import backoff
from fastmon_daemon.base.errors import FastmonError, LinkDown, TransientError
from fastmon_daemon.monitor import RequestRejected

ABSENT_S = 3600.0
"""Seconds after which a monitor that has no such call is asked again."""
_STUMBLE_S = 30.0

T = TypeVar("T")


class WorkerErrors:
    """Threads that met an unexpected error and go on: health is not OK until their next round succeeds.

    Each call is one operation on a dict, hence safe from any thread.
    """

    def __init__(self, elsewhere: Mapping[str, Callable[[], str | None]] | None = None) -> None:
        """*elsewhere*: workers that keep their own record: name -> the class of the error, None where there is none."""
        self._elsewhere = elsewhere or {}
        self._errors: dict[str, tuple[str, str]] = {}
        """Worker -> its error in full, and the class of it."""

    def failed(self, worker: str, error: BaseException) -> None:
        """The round of *worker* ended with *error*: logged with its traceback, the same one not again."""
        last = (repr(error), type(error).__name__)
        if self._errors.get(worker) != last:
            logger.opt(exception=error).error("{}: unexpected error; the same one is not told again", worker)
        self._errors[worker] = last

    def worked(self, worker: str) -> None:
        """A round of *worker* succeeded."""
        self._errors.pop(worker, None)

    def now(self) -> dict[str, str]:
        """Worker -> the class of its error; the text stays in the log, where secrets are blotted out."""
        errors = {worker: kind for worker, (_, kind) in dict(self._errors).items()}
        return errors | {worker: kind for worker, ask in self._elsewhere.items() if (kind := ask())}


class PeriodicWorker:
    """Does *turn* again and again: it returns the seconds until the next time. *farewell* is done once, at the end."""

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        farewell: Callable[[], object] = lambda: None,
        *,
        errors: WorkerErrors,
    ) -> None:
        self._name = name
        self._turn = turn
        self._farewell = farewell
        self._errors = errors
        self._wake = threading.Event()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """End the pause."""
        self._wake.set()

    def stop(self) -> None:
        """End after the present turn; returns at once."""
        self.stopping.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end; False if it has not come by then: the thread is left behind, and holds nothing up."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._wake.wait(self._safely(self._turn, _STUMBLE_S))
            self._wake.clear()
        self._safely(self._farewell, None)

    def _safely(self, what: Callable[[], T], otherwise: T) -> T:
        try:
            answer = what()
        except (Exception, SystemExit) as exc:  # noqa: BLE001 (what is told of us may fail, and the next turn is to come)
            self._errors.failed(self._name, exc)
            return otherwise
        self._errors.worked(self._name)
        return answer


class BestEffortCall:
    """Whether a call is worth trying now. One warning when it begins to fail, one line when it works again."""

    def __init__(self, name: str, monotonic: Callable[[], float], *, patience_s: float = math.inf) -> None:
        """It rests for *patience_s* at most, whatever the monitor says: no such call, or `Retry-After`."""
        self._name = name
        self._monotonic = monotonic
        self._patience_s = patience_s
        self._not_before = monotonic()
        self._failures = 0
        self._told = False

    @property
    def pause_s(self) -> float:
        """Seconds until it may be tried again; 0: now."""
        return max(0.0, self._not_before - self._monotonic())

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """It was done."""
        if self._told:
            logger.info("{}: the monitor takes it again", self._name)
        self._told, self._failures = False, 0

    def failed(self, error: FastmonError, *, quietly: bool = False) -> None:
        """It was not done: rest for a while, an hour where the monitor has no such call. *quietly*: no warning."""
        self._failures += 1
        absent = isinstance(error, RequestRejected) and error.endpoint_missing
        asked = error.retry_after_s if isinstance(error, TransientError) else None
        rest = ABSENT_S if absent else backoff(self._failures, retry_after_s=asked).total_seconds()
        rest = min(rest, self._patience_s)
        self._not_before = self._monotonic() + rest
        if quietly or self._told or isinstance(error, LinkDown):  # of a link that is down the main job speaks
            logger.debug("{}: {}", self._name, error)
            return
        self._told = True
        why = "this monitor has no such call, " if absent else ""
        logger.warning("{}: not told to the monitor, {}it is tried again in {:.0f} s: {}", self._name, why, rest, error)
