"""When an STF counts as stuck: one rule for the heart-beat, the status messages, `/metrics` and `inspect`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.links import INTAKE
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, OutboxReader, Stf
from fastmon_daemon.statechart import StateMachine

_ANY_AGE = datetime.max.replace(tzinfo=UTC)
_RECENT_OUTAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRule:
    """An STF is stuck if it failed, or has not changed its state for *stuck_after_s* seconds.

    The time that a link is down does not count; after an outage the backlog has *stuck_after_s* seconds again.
    """

    chart: StateMachine
    links: Mapping[str, str]
    """Step -> link."""
    stuck_after_s: float

    @property
    def unfinished(self) -> tuple[str, ...]:
        """States that are not finalized."""
        return tuple(state for state in self.chart.states if not self.chart.is_finalized(state))

    @property
    def failed(self) -> tuple[str, ...]:
        """States from which only an operator can go on, by a retry."""
        return tuple(state for state in self.chart.states if self.chart.may(state, "retry"))

    @property
    def needed_links(self) -> tuple[str, ...]:
        """The links that the daemon works with."""
        return tuple(dict.fromkeys(("monitor", INTAKE, *self.links.values())))

    def link_from(self, state: str) -> str | None:
        """Return the link that the step out of *state* needs, or None."""
        return self.links.get(self.chart.step_from(state) or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """The last known state of a link."""

    link: str
    state: str = "up"
    """`up`, `down`, `blocked` (it answers, but rejects us), or `unknown`: no daemon, or no connection yet."""
    since: str | None = None
    """When it went down or came back; None if it never was down."""
    reason: str | None = None
    next_probe_at: str | None = None

    def excuses(self, since: datetime) -> bool:
        """Whether work may have waited for this link at some time after *since*."""
        return self.state != "up" or (self.since is not None and parse_timestamp(self.since) > since)


def latest_link_statuses(reports: OutboxReader, unconnected: Iterable[str] = ()) -> dict[str, LinkStatus]:
    """Return link -> status of the links that are or recently were down, or are *unconnected*; all others are up."""
    open_ones = reports.outages.open()  # may be older than all recent ones
    recent = reports.outages.latest(_RECENT_OUTAGES)
    statuses = {
        outage.link: _status(outage) for outage in (*open_ones, *reversed(recent)) if outage.link != DAEMON_DOWNTIME
    }
    for name in unconnected:
        if statuses.get(name, LinkStatus(link=name)).state == "up":
            statuses[name] = LinkStatus(link=name, state="unknown", reason="not connected yet")
    return statuses


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
        """*links* as from `latest_link_statuses`. If no daemon is running, every unfinished STF is stuck."""
        self._reports = reports
        self._failed = rule.failed
        self._before = now - timedelta(seconds=rule.stuck_after_s) if daemon_runs else _ANY_AGE
        waited_for = {name for name, link in links.items() if daemon_runs and link.excuses(self._before)}
        self._unfinished = tuple(state for state in rule.unfinished if rule.link_from(state) not in waited_for)

    def count(self, *, state: str | None = None, run: str | None = None, states: Collection[str] | None = None) -> int:
        """Count the stuck STFs, optionally only those in *state*, in one of *states*, or of *run*."""
        return sum(
            self._reports.count_stfs(allowed, before=before, run=run)
            for group, before in self._groups(state)
            if (allowed := tuple(each for each in group if states is None or each in states))
        )

    def since(self) -> str | None:
        """Return since when the first of the stuck STFs has been in its state."""
        longest = (
            (self._reports.longest_in(state), before) for states, before in self._groups(None) for state in states
        )
        return min((since for since, before in longest if since and since <= before), default=None)

    def find(self, limit: int, *, state: str | None = None, run: str | None = None) -> list[Stf]:
        """Return up to *limit* stuck STFs (negative: all), failed ones first: a long backlog must not hide them."""
        found: list[Stf] = []
        for states, before in self._groups(state):
            room = limit - len(found) if limit >= 0 else -1
            found += self._reports.find(states, before=before, limit=room, run=run)
        return found

    def includes(self, stf: Stf) -> bool:
        """Whether *stf* is stuck."""
        return any(stf.state in states and stf.since <= before for states, before in self._groups(stf.state))

    def _groups(self, only: str | None) -> tuple[tuple[tuple[str, ...], str], ...]:
        """Return pairs of states and time: an STF in one of the states since before that time is stuck."""
        groups = ((self._failed, _ANY_AGE), (self._unfinished, self._before))
        return tuple(
            (tuple(state for state in states if only in (None, state)), format_timestamp(before))
            for states, before in groups
        )
