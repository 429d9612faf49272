"""Decides by the calls of other STFs over the same link whether a failure is the STF's fault or the other side's.

A link that fails for one STF and works for others is not down: the fault is the STF's. An error that several STFs get,
while no call succeeds, is not the STFs' fault. This module knows neither the outbox nor the circuit breakers.
"""

from __future__ import annotations

from collections import Counter

from fastmon_daemon.base.errors import LinkDown, ParentNotRegistered, TransientError
from fastmon_daemon.engine.tasks import StepExecution

MIN_FAILURES = 10
"""An STF is an outlier after this many failures between which the link worked for others: more than chance."""
MIN_STFS = 3
"""A failure is systemic if this many STFs fail and no call succeeds in between."""


class OutlierDetector:
    """Counts in memory, in the engine's thread."""

    def __init__(self) -> None:
        self._successes: Counter[str] = Counter()
        """Link -> calls that succeeded."""
        self._link_failures: dict[int, tuple[int, int]] = {}
        """STF -> how often it alone found its link down, and the link's successes at the last time."""
        self._own_failures: dict[int, tuple[str, int]] = {}
        """STF that fails over a link that is up -> the link, and its successes at the first failure."""

    def record(self, execution: StepExecution, answer: object) -> None:
        """Record the answer (or exception) of one call of *execution*."""
        link, stf = execution.link, execution.stf.id
        successes = self._successes[link]
        if isinstance(answer, LinkDown):
            times, before = self._link_failures.get(stf, (0, successes))
            self._link_failures[stf] = times + (successes > before), successes
        elif isinstance(answer, TransientError) and not isinstance(answer, ParentNotRegistered):
            self._own_failures.setdefault(stf, (link, successes))
        elif not isinstance(answer, Exception):
            self._successes[link] += 1
            self.forget(stf)

    def forget(self, stf_id: int) -> None:
        """Forget the failures of an STF: a call succeeded, or the STF failed and an operator decides."""
        self._link_failures.pop(stf_id, None)
        self._own_failures.pop(stf_id, None)

    def is_outlier(self, execution: StepExecution) -> bool:
        """Whether only this STF finds its link down."""
        return self._link_failures.get(execution.stf.id, (0, 0))[0] >= MIN_FAILURES

    def is_systemic(self, execution: StepExecution) -> bool:
        """Whether several STFs fail over the link and no call succeeds: then no STF's budget is charged."""
        own = self._own_failures.get(execution.stf.id)
        if own is None or own[1] != self._successes[own[0]]:
            return False
        return sum(each == own for each in self._own_failures.values()) >= MIN_STFS
