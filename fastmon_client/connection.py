"""The state of the event stream, as a person should see it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastmon_client.intervals import Intervals
from fastmon_client.snapshot import ConnectionRow, ConnectionState


class Connection:
    """Not LIVE unless a complete event or heart-beat came within 2.5 heart-beats."""

    def __init__(self, at: datetime, intervals: Intervals) -> None:
        self.state: ConnectionState = "CONNECTING"
        self.since = at
        self.reason = ""
        self.was_live = False
        self._is_open = False
        self._beat_at: datetime | None = None
        self._reconnects = 0
        self._patience = timedelta(seconds=intervals.patience_s)

    def connected(self, at: datetime) -> None:
        """A stream has been opened."""
        self._reconnects += self.was_live and self.state != "LIVE"
        self.was_live = True
        self._is_open = True
        self._beat_at = at
        self._enter("LIVE", "", at)

    def beat(self, at: datetime) -> None:
        """A complete event or heart-beat has come."""
        self._beat_at = at
        if self.state == "DEAD" and self._is_open:
            self._enter("LIVE", "", at)

    def lost(self, reason: str, at: datetime) -> None:
        """There is no stream now."""
        self._enter("DEAD" if self.was_live else "CONNECTING", reason, at)
        self._is_open = False

    def refused(self, reason: str, at: datetime) -> None:
        """There will be none until a person acts."""
        self._enter("REFUSED", reason, at)
        self._is_open = False

    def tick(self, at: datetime) -> None:
        """Time passes."""
        if self.state == "LIVE" and self._beat_at and at - self._beat_at > self._patience:
            seconds = (at - self._beat_at).total_seconds()
            self._enter("DEAD", f"no heart-beat for {seconds:.0f} s", at)

    def evidence(self, at: datetime) -> str | None:
        """Why the stream is an alarm; None while it is not."""
        late = self.state == "CONNECTING" and at - self.since > self._patience
        return (self.reason or "no answer") if self.state in ("DEAD", "REFUSED") or late else None

    def row(self, at: datetime) -> ConnectionRow:
        """As plain data."""
        age = max(0.0, (at - self._beat_at).total_seconds()) if self._beat_at else None
        return {
            "state": self.state, "since": self.since.isoformat(), "heartbeat_age_s": age,
            "reconnects": self._reconnects, "reason": self.reason,
        }  # fmt: skip

    def _enter(self, state: ConnectionState, reason: str, at: datetime) -> None:
        if state != self.state:
            self.state, self.since = state, at
        self.reason = reason
