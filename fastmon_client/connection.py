"""The state of the event stream. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastmon_client.intervals import Intervals
from fastmon_client.snapshot import ConnectionRow, ConnectionState


class Connection:
    """LIVE only if a complete event or heart-beat arrived within 2.5 heart-beat intervals."""

    def __init__(self, at: datetime, intervals: Intervals) -> None:
        self.state: ConnectionState = "CONNECTING"
        self.since = at
        self.reason = ""
        self.was_live = False
        self._is_open = False
        self._heartbeat_at: datetime | None = None
        self._reconnects = 0
        self._dead_after = timedelta(seconds=intervals.dead_after_s)

    def connected(self, at: datetime) -> None:
        """Record that a stream opened."""
        self._reconnects += self.was_live and self.state != "LIVE"
        self.was_live = True
        self._is_open = True
        self._heartbeat_at = at
        self._enter("LIVE", "", at)

    def record_heartbeat(self, at: datetime) -> None:
        """Record a complete event or heart-beat."""
        self._heartbeat_at = at
        if self.state == "DEAD" and self._is_open:
            self._enter("LIVE", "", at)

    def lost(self, reason: str, at: datetime) -> None:
        """Record that no stream is open."""
        self._enter("DEAD" if self.was_live else "CONNECTING", reason, at)
        self._is_open = False

    def refused(self, reason: str, at: datetime) -> None:
        """Record that no stream can open until an operator acts."""
        self._enter("REFUSED", reason, at)
        self._is_open = False

    def tick(self, at: datetime) -> None:
        """Detect missing heart-beats."""
        if self.state == "LIVE" and self._heartbeat_at and at - self._heartbeat_at > self._dead_after:
            seconds = (at - self._heartbeat_at).total_seconds()
            self._enter("DEAD", f"no heart-beat for {seconds:.0f} s", at)

    def evidence(self, at: datetime) -> str | None:
        """Evidence for the alarm `stream_dead`, or None."""
        late = self.state == "CONNECTING" and at - self.since > self._dead_after
        return (self.reason or "no response") if self.state in ("DEAD", "REFUSED") or late else None

    def row(self, at: datetime) -> ConnectionRow:
        """Plain data for the snapshot."""
        age = max(0.0, (at - self._heartbeat_at).total_seconds()) if self._heartbeat_at else None
        return {
            "state": self.state, "since": self.since.isoformat(), "heartbeat_age_s": age,
            "reconnects": self._reconnects, "reason": self.reason,
        }  # fmt: skip

    def _enter(self, state: ConnectionState, reason: str, at: datetime) -> None:
        if state != self.state:
            self.state, self.since = state, at
        self.reason = reason
