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
    "daemon_silent",
    "monitor_unreachable",
]
TileState = Literal["good", "warning", "bad", "unknown"]
VerdictWord = Literal["FLOWING", "DEGRADED", "NOT FLOWING", "UNKNOWN"]


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
    is_past: bool
    """Over before this client started, as far as the table of runs tells; false once it is heard of."""
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
    bytes: int | None
    """Of the TF files with a known size; None if none has one."""
    tf_files_without_size: int
    backfilled: int
    """TF files from the monitor's tables, not from the stream."""
    duplicates: int
    """Repeated announcements, neither shown nor counted."""
    rate_hz: float
    """Announced TF files per second over the last minute, or since the first one; backfilled ones never count."""
    lag_p50_s: float | None
    """From the announcement to its arrival, over the stream only."""
    lag_p95_s: float | None
    last_at: str | None
    """When the newest TF file was made."""
    last_age_s: float | None
    began_at: str | None
    """Start, as the monitor's table or the run control says."""
    ended_at: str | None
    stf_registered_at: str | None
    """When the newest STF was registered with the monitor."""
    stf_generated_at: str | None
    """When the DAQ last told of an STF (`stf_gen`)."""
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
    """Announced TF files per time bin, oldest first; the last, incomplete bin ends at `ends_at`."""

    bin_s: int
    ends_at: str
    tf_files: list[int]


class AlarmRow(TypedDict):
    """One alarm; it stays for 10 minutes after its end (`until`)."""

    kind: AlarmKind
    subject: str | None
    """The run or the agent; with the kind it identifies the alarm."""
    run: str | None
    since: str
    until: str | None
    evidence: str


class Loading(TypedDict):
    """What is still read from the monitor's tables."""

    runs: int
    """Runs whose numbers were not compared yet."""
    stfs: int
    """STFs whose TF files are queried now."""
    text: str
    """Empty if nothing is awaited."""


class Totals(TypedDict):
    """Sums over all runs, also those that are not in `runs`."""

    runs: int
    stfs: int
    tf_files: int
    bytes: int | None
    """Of the TF files with a known size; None if none has one."""
    tf_files_without_size: int
    backfilled: int
    duplicates: int


class VerdictRow(TypedDict):
    """The answer in one line. FLOWING stands only while all four tiles are good."""

    word: VerdictWord
    state: TileState
    """Its colour: NOT FLOWING is `bad`, but `unknown` while no run takes data."""
    since: str | None
    """When it began; None: unknown."""
    reason: str
    """Why; never empty."""
    remedy: str
    """The one thing to do; empty if there is nothing to do."""


class FlowTile(TypedDict):
    """Whether TF files come; `unknown` also while no run takes data."""

    state: TileState
    text: str
    rate_hz: float
    """TF files per second of all shown runs."""
    last_tf_file_at: str | None
    """When the newest TF file was made."""
    age_s: float | None
    """Since then."""


class MissingTile(TypedDict):
    """STFs without TF files, and incomplete ones, of the runs that are open or ended within the last 8 h."""

    state: TileState
    text: str
    count: int | None
    """None: unknown."""
    run: str | None
    """The newest run with missing STFs."""


class AgentRow(TypedDict):
    """One daemon."""

    name: str
    namespace: str | None
    host: str | None
    state: TileState
    status: str
    """OK, WARNING, ERROR, EXITED as the agent says; SILENT without heart-beats."""
    backlog: int | None
    """Its unfinished STFs."""
    completed: int | None
    """STFs that it completed, without those of runs that it pruned."""
    heartbeat_at: str
    heartbeat_age_s: float
    since: str | None
    """Its last sign of life, if it is silent or has stopped."""
    text: str
    """Its own verdict in one line; `is silent`, `has stopped`."""


class DaemonTile(TypedDict):
    """The daemons of the namespaces shown, by the monitor's table of agents."""

    state: TileState
    text: str
    backlog: int | None
    """Unfinished STFs of all live daemons."""
    heartbeat_age_s: float | None
    """Of the daemon that reported last."""
    agents: list[AgentRow]


class PartRow(TypedDict):
    """A part of a tile."""

    state: TileState
    text: str


class MonitorTile(TypedDict):
    """The monitor as this client sees it."""

    state: TileState
    text: str
    stream: PartRow
    tables: PartRow


class Tiles(TypedDict):
    """What the verdict stands for."""

    flow: FlowTile
    missing: MissingTile
    daemon: DaemonTile
    monitor: MonitorTile


class Point(TypedDict):
    """One minute of a run; None: not known."""

    rate_hz: float | None
    """TF files of the STFs that were registered in it, per second."""
    lag_s: float | None
    """Median from the registration of an STF to that of its last TF file."""
    missing: float | None
    """Fraction of the selected STFs without TF files."""
    size_bytes: float | None
    """Of the TF files of one STF, on average."""


class ProfileRow(TypedDict):
    """A profile as plain data."""

    run: str
    began_at: str | None
    step_s: int
    stfs: int
    """Selected STFs."""
    read: int
    one_of: int
    """One of so many is read."""
    to_read: int
    points: list[Point]


class ReferenceRow(TypedDict):
    """A run beside its reference run (`--reference`)."""

    run: str
    """The reference run."""
    text: str
    """The comparison in one line, or why there is none."""
    current: str | None
    """The run that is compared."""
    since_start_s: float | None
    """The end of its last known minute, since its start."""
    now: Point | None
    """That minute."""
    then: Point | None
    """The same minute of the reference run; None: it was shorter."""


class Snapshot(TypedDict):
    """The whole state at one time."""

    at: str
    uptime_s: float
    verdict: VerdictRow
    tiles: Tiles
    monitor: str
    filters: Filters
    connection: ConnectionRow
    runs: list[RunRow]
    """Newest first by their own time, at most 50 of `runs_total`; `AppState.page` has the rest."""
    runs_total: int
    loading: Loading
    recent: list[RecentRow]
    """Newest first, at most 200."""
    rates: Rates
    alarms: list[AlarmRow]
    """Active alarms first, then ended ones; newest first."""
    totals: Totals
    reference: ReferenceRow | None
    """None without `--reference`."""
