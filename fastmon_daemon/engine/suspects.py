"""STFs for which a link seems to be down while it works for others: then the fault is their own.

It must not know the outbox or the gates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fastmon_daemon.engine.plant import Work
from fastmon_daemon.errors import LinkDown

ENOUGH = 10
"""So many times must an STF find a link down that worked for another in between: no outage does that by chance."""


class Suspects:
    """Counts in memory; works in the engine's thread."""

    def __init__(self, links: Mapping[str, str]) -> None:
        self._links = links
        self._worked: Counter[str] = Counter()
        self._met: dict[int, tuple[int, int]] = {}
        """STF -> how often it was alone in finding its link down, and how often that had worked by then."""

    def note(self, work: Work, answer: object) -> None:
        """One call of *work* came back."""
        link, stf = self._links[work.trigger], work.stf.id
        if isinstance(answer, LinkDown):
            times, worked = self._met.get(stf, (0, self._worked[link]))
            self._met[stf] = times + (self._worked[link] > worked), self._worked[link]
        elif not isinstance(answer, Exception):
            self._worked[link] += 1
            self._met.pop(stf, None)

    def forget(self, stf_id: int) -> None:
        """It is left to a person, whose retry begins anew."""
        self._met.pop(stf_id, None)

    def is_guilty(self, work: Work) -> bool:
        """Whether that its link is down is its own fault."""
        return self._met.get(work.stf.id, (0, 0))[0] >= ENOUGH
