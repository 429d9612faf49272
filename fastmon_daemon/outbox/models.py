"""The rows of the outbox as frozen types. Times are ISO 8601 text in UTC, as stored; sizes are bytes.

How they are read is in `queries` and `runs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

DAEMON_DOWNTIME = "daemon"
"""The link name of outages during which no daemon was running."""
MAX_REJECTED_BYTES = 65_536
"""Bytes of a rejected message that are stored; the rest is cut."""
SAMPLING_VERSION = 1
"""Version of the sampling algorithm, part of the seed: two versions never mix their samples."""


@dataclass(frozen=True, slots=True)
class TfRange:
    """One contiguous block of TFs of an STF; TFs are numbered from 0 and `last` is inclusive."""

    sequence: int
    filename: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of TFs in the block."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePlan:
    """All that a sample depends on; stored with the STF, so the sample can be drawn again."""

    seed: str
    tf_count: int
    """Number of TFs in the STF."""
    tf_files: int
    """Number of blocks to draw."""
    size_fraction: float
    """Mean size of a block as a fraction of its partition, in (0, 1]."""
    sequence_start: int
    version: int = SAMPLING_VERSION


class Origin(StrEnum):
    """How fastmon learned of an STF."""

    MESSAGE = "message"
    """From its `stf_ready` message."""
    POLLED = "polled"
    """From a poll of the monitor, after an `stf_ready` without a filename."""
    RECOVERED = "recovered"
    """From a poll of the monitor, because its message was missed."""
    FILE = "file"
    """From its file in a watched folder: no data agent registers it."""


class ReceiveOutcome(StrEnum):
    """The result of `Outbox.receive`."""

    FRESH = "fresh"
    KNOWN = "known"
    CONFLICT = "conflict"
    """Known with other content; nothing was overwritten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStf:
    """An STF to store; its identity is (namespace, run, filename)."""

    namespace: str
    run_id: str | int
    """As received; the identity is `messages.run_identity` of it."""
    filename: str
    sequence: int | None = None
    size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    execution_id: str | None = None
    body: str = "{}"
    """The message, or the monitor's row, as JSON text."""
    origin: Origin = Origin.MESSAGE
    born_at: datetime | None = None
    """When the STF was created; None: now."""
    note: str | None = None
    """The note of its first history row; None: its origin."""
    preexisting: tuple[str, ...] = ()
    """Names of its TF files that the monitor had before fastmon registered any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tf:
    """One TF file of a sample; `last` is inclusive."""

    sequence: int
    filename: str
    first: int | None
    last: int | None
    count: int | None
    size_bytes: int | None
    monitor_id: str | None = None
    """The monitor's `tf_file_id`, once registered."""
    registered_at: str | None = None
    announced_at: str | None = None
    adopted: str | None = None
    """How the monitor's row differs from ours, if another writer registered the file first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stf:
    """One STF with its TF files."""

    id: int
    namespace: str
    run: str
    run_id: str | int
    filename: str
    sequence: int | None
    size_bytes: int | None
    checksum: str | None
    tf_count: int | None
    execution_id: str | None
    body: str
    origin: Origin
    included: bool
    """An operator included it although it was not selected."""
    state: str
    life: int
    since: str
    """When it entered its state."""
    received_at: str
    born_at: str
    due_at: str | None
    """When its next step may begin; None: it is finalized."""
    attempts: int
    spent_s: float
    """Seconds of its retry budget that it used in this state."""
    last_error: str | None
    remark: str | None
    plan: SamplePlan | None
    preexisting: tuple[str, ...] = ()
    """Names of its TF files that the monitor had before fastmon registered any."""
    is_doubtful: bool = False
    """It may be an STF of another run at the monitor: another run has this name, or its run has `unlisted` STFs."""
    tfs: tuple[Tf, ...] = ()

    def with_results(self, results: Iterable[StepResult], at: str) -> Stf:
        """As stored by `Outbox.save_progress` at the time *at*, without the remarks."""
        stf, tfs = self, {tf.sequence: tf for tf in self.tfs}
        for result in results:
            match result:
                case Sampled():
                    stf = result.of(stf)
                    tfs = {tf.sequence: tf for tf in stf.tfs}
                case Registered(tf=tf, sample=sample):
                    if sample is not None:
                        stf = sample.of(stf)
                        tfs = {tf.sequence: tf for tf in stf.tfs}
                    tfs[tf.sequence] = replace(tf, registered_at=at)
                case Announced(sequence=sequence):
                    tfs[sequence] = replace(tfs[sequence], announced_at=at)
        return replace(stf, tfs=tuple(tfs.values()))

    def moved_to(self, state: str, at: str, *, finalized: bool) -> Stf:
        """As stored by `Outbox.move` at the time *at*, without its note."""
        due_at = None if finalized else self.born_at
        return replace(self, state=state, since=at, due_at=due_at, attempts=0, spent_s=0.0, last_error=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The sample was drawn."""

    plan: SamplePlan
    ranges: tuple[TfRange, ...]
    sizes: tuple[int | None, ...]
    """Bytes of each block, in the order of *ranges*; None if the size of the STF is unknown."""
    tf_count: int | None = None
    size_bytes: int | None = None
    """Of the STF, where the monitor's row says it and the message did not."""

    @property
    def tfs(self) -> tuple[Tf, ...]:
        """The TF files of the sample, not registered yet."""
        return tuple(
            Tf(sequence=each.sequence, filename=each.filename, first=each.first, last=each.last, count=each.count,
               size_bytes=size)
            for each, size in zip(self.ranges, self.sizes, strict=True)
        )  # fmt: skip

    def of(self, stf: Stf) -> Stf:
        """*stf* with this sample, and with what the monitor's row says of it."""
        tf_count = self.tf_count if stf.tf_count is None else stf.tf_count
        size_bytes = self.size_bytes if stf.size_bytes is None else stf.size_bytes
        return replace(stf, tf_count=tf_count, size_bytes=size_bytes, plan=self.plan, tfs=self.tfs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One TF file was registered; *tf* is as the monitor has it."""

    tf: Tf
    sample: Sampled | None = None
    """The sample, if it was drawn again before its first TF file was registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One TF file was announced and the broker confirmed it."""

    sequence: int


StepResult = Sampled | Registered | Announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A transition of an STF, as it happens; `HistoryRow` is the stored one."""

    source: str | None
    """None: the STF was received."""
    dest: str
    seconds: float
    """Time in *source*, or from the birth of the STF to its receipt."""
    latency_s: float | None = None
    """Seconds since its receipt, if no work remains for it."""
    origin: Origin | None = None
    """How fastmon learned of it, if it was received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One transition of one STF."""

    life: int
    trigger: str | None
    """None: it was received."""
    source: str | None
    dest: str
    at: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run."""

    namespace: str
    run: str
    run_id: str | int
    state: str
    execution_id: str | None
    expected: int | None
    """How many STFs the run has."""
    expected_by: str | None
    """The source of *expected*: `end_run` (its `total_stf_files`) or `monitor` (its stable count)."""
    last_message_at: str
    ended_at: str | None
    ended_by: str | None
    """How fastmon learned of its end."""
    nameless: bool
    """It was announced without filenames: only the monitor lists its STFs."""
    last_sequence: int | None
    """The highest sequence number of its STFs."""
    poll_at: str | None
    """When its next poll is due; None: it is not polled."""
    polls: int
    reconcile_error: str | None
    monitor_count: int | None
    """How many STFs the monitor listed at the last poll."""
    absent: tuple[str, ...]
    """Those of them that were unknown, at most `MAX_ABSENT`."""
    unlisted: tuple[str, ...]
    """STFs of which TF files were registered and that the last poll did not list, at most `MAX_ABSENT`."""
    summary_at: str | None
    """When its summary was sent."""
    claimed: bool
    """It is ours; False: only those of its STFs that were announced to us are."""
    other_namespace: str | None
    """The namespace whose TF files stand in it, if that is why it is not claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A period in which a link was down, or blocked (it answers, but rejects us)."""

    link: str
    """`monitor`, `broker` or `announcements`; `daemon`: the daemon itself was down."""
    began_at: str
    """When it began."""
    ended_at: str | None
    """When it ended; None: not yet."""
    reason: str
    """Why, in words."""
    blocked: bool
    """The link answers, but rejects us until an operator acts."""
    next_probe_at: str | None
    """When the link is tried next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """One rejected message."""

    id: int
    at: str
    reason: str
    bytes: int
    """Size of the message as received."""
    body: str
    is_whole: bool
    """Whether *body* is all of the message, not only its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRun:
    """What is kept of a run whose STFs were pruned."""

    namespace: str
    run: str
    at: str
    states: dict[str, int]
    """State -> number of pruned STFs."""
    tf_files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TfCounts:
    """The TF files of a run's STFs."""

    drawn: int
    """Sampled."""
    registered: int
    """Registered with the monitor."""
    announced: int
    """Announced, and confirmed by the broker."""
    preexisting: int
    """Not announced, because the monitor had them before fastmon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A run's STFs that other daemons have."""

    finished: int
    unfinished: int

    @property
    def total(self) -> int:
        """Both."""
        return self.finished + self.unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Durations of one transition in a run, in seconds."""

    source: str | None
    """The state before; None: from the birth of the STF."""
    dest: str
    """The state after."""
    count: int
    """STFs that made the transition."""
    p50_s: float
    """Median."""
    p95_s: float
    """95 % were not slower."""
    max_s: float
    """The slowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKeys:
    """The monitor's ids of an STF's workflow and stage."""

    workflow_id: str | None
    stage_id: str | None
    unreportable: str | None
    """Why no stage can be reported for this STF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingReport:
    """One STF with transitions that were not reported yet."""

    stf: Stf
    keys: StageKeys
    history: tuple[HistoryRow, ...]
    """Its transitions that the report covers, in order, from the very first."""
    pending: tuple[int, ...]
    """Ids of the last of them: those that were not reported yet."""

    @property
    def reported(self) -> tuple[HistoryRow, ...]:
        """The transitions that were reported before."""
        return self.history[: len(self.history) - len(self.pending)]

    @property
    def oldest(self) -> HistoryRow:
        """The first transition that was not reported yet."""
        return self.history[len(self.history) - len(self.pending)]

    def first(self) -> PendingReport:
        """The report of the oldest pending transition alone."""
        return replace(self, history=(*self.reported, self.oldest), pending=self.pending[:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a person did."""

    action: str
    """`retry`, `discard`, `include`, `replay`, `purge`, `reconcile` or `reload`."""
    who: str
    """The user name, or the signal."""
    reason: str
    subject: str
    """What it was done to, in words."""
    count: int
    """How many STFs, messages or settings it changed."""
    requested_at: str = ""
    """When the command was given; empty: unknown."""
    at: str = ""
    """When it was done."""


@dataclass(frozen=True, slots=True)
class RecoveredStf:
    """An STF that was recovered."""

    run: str
    stf: str
    at: str


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often a reason was recorded, and when last."""

    reason: str
    count: int
    last_at: str


@dataclass(frozen=True, slots=True)
class SlowStf:
    """An STF, and the seconds from its receipt to its last transition."""

    run: str
    stf: str
    seconds: float
    at: str
