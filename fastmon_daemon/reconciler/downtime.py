"""Records when the daemon was not listening, and explains why an STF was missed."""

from __future__ import annotations

from datetime import datetime, timedelta

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.outbox import DAEMON_DOWNTIME, Outage, Outbox
from fastmon_daemon.reconciler.config import ReconcilerConfig

SLACK = timedelta(minutes=1)
"""An STF still fits an outage this far outside its window: outages are noticed late, and clocks differ."""

_HEARTBEAT = "listened_at"
_STOPPED = "listening_ended"


class ListeningLog:
    """Stores until when this process listened, so that the next one knows the downtime. In the engine's thread."""

    def __init__(self, config: ReconcilerConfig) -> None:
        self._config = config
        self._next: float | None = None
        """Monotonic time of the next heart-beat; None before `begin`."""

    def begin(self, outbox: Outbox) -> None:
        """The daemon subscribes now: store the downtime before, and the first heart-beat."""
        now = self._config.clock.now()
        with outbox.transaction():
            last = outbox.recall(_HEARTBEAT)
            if last is not None and parse_timestamp(last) < now:
                reason = "it was stopped" if outbox.recall(_STOPPED) else "it was killed, or its host went down"
                outbox.outages.record_downtime(parse_timestamp(last), now, reason)
            outbox.remember(_STOPPED, "")
            outbox.remember(_HEARTBEAT, format_timestamp(now))
        self._next = self._config.clock.monotonic() + self._config.intervals.heartbeat_s

    def beat(self, outbox: Outbox, now: datetime) -> None:
        """Store a heart-beat if one is due."""
        monotonic = self._config.clock.monotonic()
        if self._next is not None and monotonic >= self._next:
            self._next = monotonic + self._config.intervals.heartbeat_s
            with outbox.transaction():
                outbox.remember(_HEARTBEAT, format_timestamp(now))

    def end(self, outbox: Outbox) -> None:
        """The daemon stops on purpose."""
        if self._next is None:
            return
        now = format_timestamp(self._config.clock.now())
        try:
            with outbox.transaction():
                outbox.remember(_STOPPED, now)
                outbox.remember(_HEARTBEAT, now)
        except StorageUnavailable as exc:  # the last heart-beat says nearly the same
            logger.warning("could not record shutdown: {}", exc)


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
