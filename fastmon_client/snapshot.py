"""The snapshot that terminal, page and summary render: plain data.

Times are ISO 8601 in UTC, durations are seconds (`_s`), volumes are bytes. None means unknown.
"""

from __future__ import annotations

from typing import Literal, TypedDict

ConnectionState = Literal["CONNECTING", "LIVE", "DEAD", "REFUSED"]
RunState = Literal["imminent", "running", "paused", "ended", "complete", "unknown"]
StripKind = Literal["present", "recovered", "missing", "skipped", "incomplete", "unknown"]
AlarmKind = Literal[
    "stream_dead",
    "source_silent",
    "agents_unmatched",
    "run_stale",
    "stfs_missing",
    "rate_dropped",
    "daemon_degraded",
    "monitor_unreachable",
]


class Filters(TypedDict):
    """What the operator chose to see; empty: no restriction."""

    message_types: list[str]
    agents: list[str]
    run_ids: list[str]
    namespace: str | None


class ConnectionRow(TypedDict):
    """The event stream. CONNECTING: not yet reached; DEAD: lost, or no heart-beat; REFUSED: needs an operator."""

    state: ConnectionState
    since: str
    heartbeat_age_s: float | None
    """Since the last complete event or heart-beat."""
    reconnects: int
    """Connections after a loss; planned renewals do not count."""
    reason: str
    """Why it is not LIVE; empty while it is."""


class StripCell(TypedDict):
    """One STF in the strip of a run."""

    sequence: int
    kind: StripKind
    """`unknown`: no TF files, and no known selection fraction: skipped or missing."""


class RunRow(TypedDict):
    """One run. VERIFIED: the numbers matched the monitor at `verified_at`; UNKNOWN: not compared."""

    run: str
    namespace: str | None
    state: RunState
    stale: bool
    """Running, without a TF file for longer than --stale-after."""
    verified: Literal["VERIFIED", "UNKNOWN"]
    verified_at: str | None
    doubt: str
    """Why it is UNKNOWN; empty if VERIFIED."""
    stfs_seen: int
    """STFs with at least one TF file."""
    stfs_expected: int | None
    """STFs that were selected."""
    stfs_skipped: int | None
    """STFs that were not selected."""
    stfs_missing: int | None
    """Selected STFs without any TF file."""
    stfs_incomplete: int
    """STFs with fewer TF files than announced."""
    missing: list[int]
    """Sequence numbers of missing STFs, at most 100."""
    tf_files: int
    tf_expected: int | None
    bytes: int
    backfilled: int
    """TF files from the monitor's tables, not from the stream."""
    duplicates: int
    """Repeated announcements, neither shown nor counted."""
    rate_hz: float
    """TF files per second over the last minute."""
    lag_p50_s: float | None
    """From the announcement to its arrival, over the stream only."""
    lag_p95_s: float | None
    last_at: str | None
    """Arrival of the last TF file."""
    last_age_s: float | None
    strip: list[StripCell]
    """The last 600 STFs by sequence number, without those too young for a verdict. Empty for old runs."""


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
    """TF files per time bin, oldest first; the last, incomplete bin ends at `ends_at`."""

    bin_s: int
    ends_at: str
    tf_files: list[int]


class AlarmRow(TypedDict):
    """One alarm; it stays for 10 minutes after its end (`until`)."""

    kind: AlarmKind
    run: str | None
    since: str
    until: str | None
    evidence: str


class Totals(TypedDict):
    """Totals since the start, including runs that are no longer listed."""

    runs: int
    stfs: int
    tf_files: int
    bytes: int
    backfilled: int
    duplicates: int


class Snapshot(TypedDict):
    """The whole state at one time."""

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
    """Active alarms first, then ended ones; newest first."""
    totals: Totals
