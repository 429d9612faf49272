"""What the client knows at one moment, as plain data: the form that terminal, page and summary share.

Times are ISO 8601 in UTC, durations are seconds (`_s`), volumes are bytes. None means: not known.
"""

from __future__ import annotations

from typing import Literal, TypedDict

ConnectionState = Literal["CONNECTING", "LIVE", "DEAD", "REFUSED"]
RunState = Literal["imminent", "running", "paused", "ended", "complete", "unknown"]
StripKind = Literal["present", "recovered", "missing", "skipped", "incomplete", "unknown"]
AlarmKind = Literal[
    "stream_dead", "run_stale", "stfs_missing", "rate_dropped", "daemon_degraded", "monitor_unreachable"
]


class Filters(TypedDict):
    """What a person asked to see; empty: no restriction."""

    message_types: list[str]
    agents: list[str]
    run_ids: list[str]
    namespace: str | None


class ConnectionRow(TypedDict):
    """The event stream. CONNECTING: not yet reached; DEAD: lost, or no heart-beat; REFUSED: a person must act."""

    state: ConnectionState
    since: str
    heartbeat_age_s: float | None
    """Since the last complete event or heart-beat."""
    reconnects: int
    """Connections after a loss; a planned renewal is none."""
    reason: str
    """Why it is not LIVE; empty while it is."""


class StripCell(TypedDict):
    """One STF in the strip of a run."""

    sequence: int
    kind: StripKind
    """`unknown`: without TF files, and nobody told the selection fraction: skipped or missing."""


class RunRow(TypedDict):
    """One run. VERIFIED: the numbers were the monitor's at `verified_at`; UNKNOWN: that could not be found out."""

    run: str
    namespace: str | None
    state: RunState
    stale: bool
    """Running, but without a TF file for longer than --stale-after."""
    verified: Literal["VERIFIED", "UNKNOWN"]
    verified_at: str | None
    doubt: str
    """Why it is UNKNOWN; empty where VERIFIED."""
    stfs_seen: int
    """STFs of which there is at least one TF file."""
    stfs_expected: int | None
    """STFs that were selected."""
    stfs_skipped: int | None
    """STFs that were not selected."""
    stfs_missing: int | None
    """Selected STFs without any TF file."""
    stfs_incomplete: int
    """STFs with fewer TF files than announced."""
    missing: list[int]
    """Sequence numbers of the missing, at most 100."""
    tf_files: int
    tf_expected: int | None
    bytes: int
    backfilled: int
    """TF files that the stream did not bring, but the comparison with the monitor."""
    duplicates: int
    """Announcements that repeated an earlier one; they are neither shown nor counted."""
    rate_hz: float
    """TF files per second over the last minute."""
    lag_p50_s: float | None
    """From the announcement to its arrival here, of those that the stream brought."""
    lag_p95_s: float | None
    last_at: str | None
    """When the last TF file became known."""
    last_age_s: float | None
    strip: list[StripCell]
    """The last 600 STFs by sequence number; those too young for a verdict are left out. Empty for old runs."""


class RecentRow(TypedDict):
    """One TF file."""

    at: str
    run: str
    tf_filename: str
    stf_filename: str
    size_bytes: int | None
    status: str
    backfilled: bool
    late: bool


class Rates(TypedDict):
    """TF files per bin of time, oldest bin first; the last bin, which is not over, ends at `ends_at`."""

    bin_s: int
    ends_at: str
    tf_files: list[int]


class AlarmRow(TypedDict):
    """Something that a person should know; it stays for a while after it is over (`until`)."""

    kind: AlarmKind
    run: str | None
    since: str
    until: str | None
    evidence: str


class Totals(TypedDict):
    """All that was shown since the start, runs that are no longer listed included."""

    runs: int
    stfs: int
    tf_files: int
    bytes: int
    backfilled: int
    duplicates: int


class Snapshot(TypedDict):
    """Everything at one moment."""

    at: str
    uptime_s: float
    monitor: str
    filters: Filters
    connection: ConnectionRow
    runs: list[RunRow]
    """Newest first, at most 50."""
    recent: list[RecentRow]
    """Newest first, at most 200."""
    rates: Rates
    alarms: list[AlarmRow]
    """Those that last first, then the newest."""
    totals: Totals
