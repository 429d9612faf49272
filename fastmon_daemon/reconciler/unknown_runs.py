"""The runs of which nothing ever reached us, from the first message to the last: they are named to a person.

The monitor does not say of which namespace a run is, so none of them is taken in; `reconcile` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_daemon.base.errors import LinkDown, TransientError
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.verdict import format_ranges

_SEEN = "last_run_listed"
"""Runs up to this number were listed before: they were named, or were there before us."""


class UnknownRunDetector:
    """Looks once after each time that nobody listened; works in the engine's thread, but for the call."""

    def __init__(self, config: ReconcilerConfig) -> None:
        self._config = config
        self._due: float | None = None

    def poll_soon(self) -> None:
        """Somebody listens again: look when the runs that go on have had the time to be heard of."""
        self._look_in(self._config.intervals.unknown_runs_s)

    def _look_in(self, seconds: float) -> None:
        self._due = self._config.clock.monotonic() + seconds

    def tasks(self) -> Iterator[BackgroundTask]:
        """The look, when it is due."""
        if self._due is None or self._config.clock.monotonic() < self._due or not self._config.allows_calls("monitor"):
            return
        self._due = None
        yield BackgroundTask("monitor", self._list, self._listed)

    def _list(self) -> list[int]:
        try:
            return self._config.monitor.run_numbers()
        except LinkDown as exc:  # the main job judges the link, by calls that it cannot do without
            raise TransientError(str(exc)) from exc

    def _listed(self, outbox: Outbox, answer: Any, _now: datetime) -> None:
        if isinstance(answer, Exception):
            logger.debug("the runs were not listed: {}", answer)
            self._look_in(self._config.intervals.max_pause_s)
            return
        seen = outbox.recall(_SEEN)
        known = outbox.runs.all_names()
        unheard = sorted(number for number in answer if number > int(seen or 0) and str(number) not in known)
        if answer:
            outbox.remember(_SEEN, str(max(answer)))
        if unheard and seen is not None:  # else what is listed was there before us
            outbox.count("runs_unknown", len(unheard))
            logger.warning(
                "the monitor has runs of which nothing was ever heard, and does not say whose they are: {}; "
                "where one is ours: fastmon-daemon reconcile --run N",
                format_ranges([(number, number) for number in unheard]),
            )
