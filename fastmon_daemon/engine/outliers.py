"""Whose fault a failing call is, as seen by the calls of the other STFs over the same link.

A link that seems to be down for one STF and works for others is not down: the fault is that STF's. And what seems to be
the STF's own fault is not, where it has befallen several and nothing has worked since. It must not know the outbox or
the gates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fastmon_daemon.base.errors import LinkDown, ParentNotRegistered, TransientError
from fastmon_daemon.engine.in_flight import StepExecution

MIN_FAILURES = 10
"""So many times must an STF find a link down that worked for another in between: no outage does that by chance."""
MIN_STFS = 3
"""So many STFs must fail, with nothing that worked in between, for the fault to be the other side's."""


class OutlierDetector:
    """Counts in memory; works in the engine's thread."""

    def __init__(self, links: Mapping[str, str]) -> None:
        self._breakers = links
        self._worked: Counter[str] = Counter()
        self._met: dict[int, tuple[int, int]] = {}
        """STF -> how often it was alone in finding its link down, and how often that had worked by then."""
        self._failing: dict[int, tuple[str, int]] = {}
        """STF that fails over a link that is up -> the link, and how often that had worked when it failed first."""

    def record(self, execution: StepExecution, answer: object) -> None:
        """One call of *work* came back."""
        link, stf = self._breakers[execution.trigger], execution.stf.id
        if isinstance(answer, LinkDown):
            times, worked = self._met.get(stf, (0, self._worked[link]))
            self._met[stf] = times + (self._worked[link] > worked), self._worked[link]
        elif isinstance(answer, TransientError) and not isinstance(answer, ParentNotRegistered):
            self._failing.setdefault(stf, (link, self._worked[link]))
        elif not isinstance(answer, Exception):
            self._worked[link] += 1
            self.forget(stf)

    def forget(self, stf_id: int) -> None:
        """It goes on, or is left to a person, whose retry begins anew."""
        self._met.pop(stf_id, None)
        self._failing.pop(stf_id, None)

    def is_outlier(self, execution: StepExecution) -> bool:
        """Whether that its link is down is its own fault."""
        return self._met.get(execution.stf.id, (0, 0))[0] >= MIN_FAILURES

    def is_systemic(self, execution: StepExecution) -> bool:
        """Whether its failure is one of several since when nothing has worked: then nobody's budget pays for it."""
        mine = self._failing.get(execution.stf.id)
        ill = mine is not None and mine[1] == self._worked[mine[0]]
        return ill and sum(each == mine for each in self._failing.values()) >= MIN_STFS
