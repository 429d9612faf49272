"""Why an STF was missed: the outage that fits, and the times at which the daemon itself did not listen."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, Outbox

SLACK = timedelta(minutes=1)
"""An outage is noticed late, and the monitor's clock is not ours: so far beside its window an STF still fits."""

_SIGN = "listened_at"
_STOPPED = "listening_ended"


def record_start(outbox: Outbox, now: datetime) -> None:
    """Remember that nobody listened since the last sign of life; inside the caller's transaction."""
    last = outbox.recall(_SIGN)
    if last is not None and parse_timestamp(last) < now:
        how = "it was stopped" if outbox.recall(_STOPPED) else "it was killed, or its host went down"
        outbox.outages.record_downtime(parse_timestamp(last), now, how)
    outbox.remember(_STOPPED, "")
    outbox.remember(_SIGN, format_timestamp(now))


def record_heartbeat(outbox: Outbox, now: datetime) -> None:
    """Remember that we listened until now."""
    outbox.remember(_SIGN, format_timestamp(now))


def record_stop(outbox: Outbox, now: datetime) -> None:
    """Remember that we stopped listening on purpose."""
    outbox.remember(_STOPPED, format_timestamp(now))
    outbox.remember(_SIGN, format_timestamp(now))


def explain_missed(born: datetime, outbox: Outbox) -> str:
    """In words, why the message of an STF that was *born* then did not reach us."""
    candidates = outbox.outages.between(format_timestamp(born - SLACK), format_timestamp(born + SLACK))
    fits = [each for each in candidates if each.link in (DAEMON_DOWNTIME, "broker")]
    if not fits:
        return "recovered: its message never came"
    return f"recovered: {_in_words(min(fits, key=lambda outage: _distance(outage, born)))}"


def _distance(outage: Outage, born: datetime) -> timedelta:
    before = parse_timestamp(outage.began_at) - born
    after = born - parse_timestamp(outage.ended_at) if outage.ended_at else timedelta.min
    return max(before, after, timedelta())


def _in_words(outage: Outage) -> str:
    what = "the daemon was not running" if outage.link == DAEMON_DOWNTIME else f"the {outage.link} link was down"
    return f"{what} {_window(outage.began_at, outage.ended_at)}"


def _window(began_at: str, ended_at: str | None) -> str:
    """Two stored times for people, in UTC; without the date where it is the same."""
    first = parse_timestamp(began_at)
    if ended_at is None:
        return f"since {first:%Y-%m-%d %H:%M:%S}Z"
    last = parse_timestamp(ended_at)
    form = "%H:%M:%S" if first.date() == last.date() else "%Y-%m-%d %H:%M:%S"
    return f"{first.strftime(form)} to {last.strftime(form)}Z"
