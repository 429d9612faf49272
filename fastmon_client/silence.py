"""Notices that announcements do not arrive although the monitor registers TF files. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

MIN_TF_FILES = 3
"""Fewer may have been lost on the way."""
SHOWN_FOR = timedelta(minutes=10)
"""After the last TF file that was not announced to us."""
_CLOCK_TOLERANCE = timedelta(seconds=30)


class Silence:
    """Counts the TF files that were registered since the last announcement, or since the connection."""

    def __init__(self, topic: str | None, at: datetime) -> None:
        """With a *topic*, messages come from it, else from the monitor's stream."""
        self._topic = topic
        self._since = self._last_at = at
        self._tf_files = 0

    def end(self, at: datetime) -> None:
        """Record an announcement, or a new connection."""
        self._since, self._tf_files = at, 0

    def record_backfilled(self, registered_at: datetime | None, compared_at: datetime | None, at: datetime) -> None:
        """Record a TF file that was found in the tables; *compared_at*: when its run was last compared before."""
        is_new = registered_at is not None and registered_at > self._since + _CLOCK_TOLERANCE
        if is_new or (compared_at is not None and compared_at >= self._since):
            self._tf_files += 1
            self._last_at = at

    def evidence(self, at: datetime) -> str | None:
        """Evidence for the alarm `source_silent`, or None."""
        if self._tf_files < MIN_TF_FILES or at - self._last_at > SHOWN_FOR:
            return None
        source = self._topic or "the monitor's stream"
        hint = (
            "set --topic to one of the daemon's FASTMON_ANNOUNCE"
            if self._topic
            else "check the daemon's FASTMON_NOTIFY, and that the monitor receives from the broker"
        )
        return (
            f"no announcement received from {source} since {self._since:%H:%M:%S} UTC, while the monitor registered "
            f"{self._tf_files} TF files: {hint}"
        )
