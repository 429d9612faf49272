"""The line that the service manager shows of the daemon (`systemctl status`): sent when it changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from fastmon_daemon.base import sd_notify
from fastmon_daemon.base.clock import format_time
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.base.text import count_of, escape_controls
from fastmon_daemon.outbox import OutboxReader, storage_errors
from fastmon_daemon.presence.stuck import LinkStatus, StuckRule, StuckStfs, latest_link_statuses

CHECK_S = 1.0


def status_line(reports: OutboxReader, rule: StuckRule, now: datetime, unconnected: Iterable[str] = ()) -> str:
    """Return the links, the backlog with its oldest STF, since when an STF is stuck, and the run of the latest message.

    No ages and no number of stuck STFs: they change all the time.

    Raises: StorageUnavailable, StorageError.
    """
    with storage_errors(reports.path):
        return _read_line(reports, rule, now, unconnected)


def _read_line(reports: OutboxReader, rule: StuckRule, now: datetime, unconnected: Iterable[str]) -> str:
    outages = latest_link_statuses(reports, unconnected)
    statuses = {name: LinkStatus(link=name) for name in rule.needed_links} | outages
    links = ", ".join(
        f"{name} {each.state}" + (f" since {format_time(each.since, now)}" if each.state != "up" and each.since else "")
        for name, each in statuses.items()
    )
    counts = reports.counts_by_state()
    waiting = sum(counts.get(state, 0) for state in rule.unfinished)
    failed = sum(counts.get(state, 0) for state in rule.failed)
    oldest = reports.oldest_unfinished(rule.unfinished) if waiting else None
    stuck_since = StuckStfs(reports, rule, outages, now, daemon_runs=True).since()
    stuck = f"stuck since {format_time(stuck_since, now)}" if stuck_since else ""
    backlog = count_of(waiting, "STF") + " waiting"
    backlog += f", the oldest since {format_time(oldest.received_at, now)}" if oldest else ""
    runs = reports.runs.latest(1)
    parts = [
        links,
        backlog,
        f"{failed} failed" if failed else "",
        stuck,
        *(f"run {run.run} {run.state}" for run in runs),
    ]
    return escape_controls("; ".join(filter(None, parts)))


class StatusLine:
    """Tells the service manager the line, once a second at most, and only what is new. For one thread."""

    def __init__(self, environ: Mapping[str, str], read: Callable[[], str], monotonic: Callable[[], float]) -> None:
        self._environ = environ
        self._read = read
        self._monotonic = monotonic
        self._told = ""
        self._next_at = -math.inf

    def update(self) -> None:
        """Send the line if it has changed; does nothing without a service manager."""
        if not self._environ.get("NOTIFY_SOCKET") or self._monotonic() < self._next_at:
            return
        self._next_at = self._monotonic() + CHECK_S
        try:
            line = self._read()
        except StorageUnavailable as exc:
            line = escape_controls(exc)
        if line != self._told and sd_notify.notify(self._environ, f"STATUS={line}"):
            self._told = line
