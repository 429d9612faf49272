"""When an STF counts as stuck: one rule for the heart-beat, the status messages, `/metrics` and `inspect`.

It must not know who asks, nor how the answer is worded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, OutboxReader, Stf
from fastmon_daemon.statechart import StateMachine

_ANY_AGE = datetime.max.replace(tzinfo=UTC)
_RECENT_OUTAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRule:
    """An STF is stuck when it failed, or stays in its state for longer than *stuck_after_s* seconds.

    Waiting for a link that is down does not count, and after an outage the backlog has as long to move again.
    """

    chart: StateMachine
    links: Mapping[str, str]
    """Step -> the link that it needs."""
    stuck_after_s: float

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The states that a step leaves."""
        return tuple(state for state in self.chart.states if not self.chart.is_finalized(state))

    @property
    def failed(self) -> tuple[str, ...]:
        """The states that only an operator can do something about."""
        return tuple(state for state in self.chart.states if self.chart.may(state, "retry"))

    def link_from(self, state: str) -> str | None:
        """The link that the step out of *state* needs; None where it needs none."""
        return self.links.get(self.chart.step_from(state) or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """A link as the daemon saw it last."""

    link: str
    state: str = "up"
    """`up`, `down`, `held` (it answers, but refuses us) or `unknown` (there is no daemon)."""
    since: str | None = None
    """When it went down, or came back; None where it never was down."""
    reason: str | None = None
    next_probe_at: str | None = None

    def excuses(self, since: datetime) -> bool:
        """Whether work may have waited for this link at some time after *since*."""
        return self.state != "up" or (self.since is not None and parse_timestamp(self.since) > since)


def latest_link_statuses(reports: OutboxReader) -> dict[str, LinkStatus]:
    """Link -> its status, of those that were down lately or are; every other link is up."""
    open_ones = reports.outages.latest(open_only=True, limit=_RECENT_OUTAGES)  # perhaps older than all below
    recent = reports.outages.latest(open_only=False, limit=_RECENT_OUTAGES)
    return {
        outage.link: _status(outage) for outage in (*open_ones, *reversed(recent)) if outage.link != DAEMON_DOWNTIME
    }


def _status(outage: Outage) -> LinkStatus:
    if outage.ended_at is not None:
        return LinkStatus(link=outage.link, since=outage.ended_at)
    return LinkStatus(
        link=outage.link,
        state="blocked" if outage.blocked else "down",
        since=outage.began_at,
        reason=outage.reason,
        next_probe_at=outage.next_probe_at,
    )


class StuckStfs:
    """The STFs that are stuck at one moment."""

    def __init__(
        self,
        reports: OutboxReader,
        rule: StuckRule,
        links: Mapping[str, LinkStatus],
        now: datetime,
        *,
        daemon_runs: bool,
    ) -> None:
        """*links* as `links_seen` says; where no daemon runs, every unfinished STF is stuck."""
        self._reports = reports
        self._failed = rule.failed
        self._before = now - timedelta(seconds=rule.stuck_after_s) if daemon_runs else _ANY_AGE
        waited_for = {name for name, link in links.items() if daemon_runs and link.excuses(self._before)}
        self._unfinished = tuple(state for state in rule.unfinished if rule.link_from(state) not in waited_for)

    def count(self, *, state: str | None = None, run: str | None = None) -> int:
        """How many STFs are stuck, of those in *state* and of *run* where these are given."""
        return sum(self._reports.count_in_state_since(*asked, run) for asked in self._asked(state))

    def find(self, limit: int, *, state: str | None = None, run: str | None = None) -> list[Stf]:
        """These STFs, *limit* at most (negative: all). Failed ones come first: a long backlog must not hide them."""
        found: list[Stf] = []
        for states, before in self._asked(state):
            room = limit - len(found) if limit >= 0 else -1
            found += self._reports.in_state_since(states, before, room, run)
        return found

    def includes(self, stf: Stf) -> bool:
        """Whether *stf* is one of them."""
        return any(
            stf.state in states and parse_timestamp(stf.since) <= before for states, before in self._asked(stf.state)
        )

    def _asked(self, only: str | None) -> tuple[tuple[tuple[str, ...], datetime], ...]:
        """States, and since when an STF must be in one of them to be stuck."""
        groups = ((self._failed, _ANY_AGE), (self._unfinished, self._before))
        return tuple((tuple(state for state in states if only in (None, state)), before) for states, before in groups)
