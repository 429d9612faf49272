"""Reports runs of which we received no message at all, so that an operator can reconcile them.

The monitor does not say which namespace a run belongs to, therefore such a run is not stored automatically.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.engine import BackgroundTask
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.verdict import format_ranges

_LAST_LISTED = "last_run_listed"
"""The highest run number that was listed before."""


class UnknownRunDetector:
    """Lists the monitor's runs once after each downtime of the link. Only the call runs outside the engine's thread."""

    def __init__(self, config: ReconcilerConfig) -> None:
        self._config = config
        self._due: float | None = None

    def poll_soon(self) -> None:
        """The daemon listens again: list the runs after the time in which open runs send messages."""
        self._due = self._config.clock.monotonic() + self._config.intervals.unknown_runs_s

    def tasks(self) -> Iterator[BackgroundTask]:
        """The poll, if it is due."""
        if self._due is None or self._config.clock.monotonic() < self._due or not self._config.allows_calls("monitor"):
            return
        self._due = None
        yield BackgroundTask("monitor", self._list, self._listed)

    def _list(self) -> list[int]:
        try:
            return self._config.monitor.run_numbers()
        except LinkDown as exc:  # this optional call must not trip the circuit breaker
            raise TransientError(str(exc)) from exc

    def _listed(self, outbox: Outbox, answer: Any, _now: datetime) -> None:
        if isinstance(answer, Exception):
            logger.debug("runs not listed: {}", answer)
            self._due = self._config.clock.monotonic() + self._config.intervals.max_pause_s
            return
        last = outbox.recall(_LAST_LISTED)
        known = outbox.runs.all_names()
        unknown = sorted(number for number in answer if number > int(last or 0) and str(number) not in known)
        if answer:
            outbox.remember(_LAST_LISTED, str(max(answer)))
        if unknown and last is not None:  # the runs of the first list are older than this database
            outbox.count("runs_unknown", len(unknown))
            logger.warning(
                "runs without any message: {} (the monitor lists them, namespace unknown); "
                "if a run is ours: fastmon-daemon reconcile --run N",
                format_ranges([(number, number) for number in unknown]),
            )
