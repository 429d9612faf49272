"""Records when the daemon was not listening, and explains why an STF was missed."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, Outbox

SLACK = timedelta(minutes=1)
"""An STF still fits an outage this far outside its window: outages are noticed late, and clocks differ."""

_HEARTBEAT = "listened_at"
_STOPPED = "listening_ended"


def record_start(outbox: Outbox, now: datetime) -> None:
    """Store the downtime since the last heart-beat, and the first heart-beat; inside the caller's transaction."""
    last = outbox.recall(_HEARTBEAT)
    if last is not None and parse_timestamp(last) < now:
        reason = "it was stopped" if outbox.recall(_STOPPED) else "it was killed, or its host went down"
        outbox.outages.record_downtime(parse_timestamp(last), now, reason)
    outbox.remember(_STOPPED, "")
    record_heartbeat(outbox, now)


def record_heartbeat(outbox: Outbox, now: datetime) -> None:
    """Store that the daemon was listening until now."""
    outbox.remember(_HEARTBEAT, format_timestamp(now))


def record_stop(outbox: Outbox, now: datetime) -> None:
    """Store that the daemon stopped listening on purpose."""
    outbox.remember(_STOPPED, format_timestamp(now))
    record_heartbeat(outbox, now)


def explain_missed(born: datetime, outbox: Outbox) -> str:
    """Why no message of an STF that was created at *born* reached us: for its history."""
    candidates = outbox.outages.between(format_timestamp(born - SLACK), format_timestamp(born + SLACK))
    fitting = [each for each in candidates if each.link in (DAEMON_DOWNTIME, "broker")]
    if not fitting:
        return "recovered: no message received"
    nearest = min(fitting, key=lambda outage: _distance(outage, born))
    what = "the daemon was not running" if nearest.link == DAEMON_DOWNTIME else "the broker link was down"
    return f"recovered: {what} {_window(nearest.began_at, nearest.ended_at)}"


def _distance(outage: Outage, born: datetime) -> timedelta:
    before = parse_timestamp(outage.began_at) - born
    after = born - parse_timestamp(outage.ended_at) if outage.ended_at else timedelta.min
    return max(before, after, timedelta())


def _window(began_at: str, ended_at: str | None) -> str:
    """Two stored times for operators, in UTC; the same date is left out."""
    first = parse_timestamp(began_at)
    if ended_at is None:
        return f"since {first:%Y-%m-%d %H:%M:%S}Z"
    last = parse_timestamp(ended_at)
    form = "%H:%M:%S" if first.date() == last.date() else "%Y-%m-%d %H:%M:%S"
    return f"{first.strftime(form)} to {last.strftime(form)}Z"
