"""What stands in the outbox, as frozen types: rows read from it and facts to be written into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fastmon_daemon.sampling import SamplePlan, TfRange

ABSENCE = "daemon"
"""In place of a link: the outages of this name are times at which no daemon listened."""


class Origin(StrEnum):
    """How we heard of an STF."""

    MESSAGE = "message"
    """Its `stf_ready` said so."""
    LOOK = "look"
    """An `stf_ready` without filename made us look at the run in the monitor."""
    RECOVERED = "recovered"
    """Its message was missed; the ledger found it in the monitor."""
    FILE = "file"
    """Its file was found in a watched folder: nobody else registers it."""


class Arrival(StrEnum):
    """What `receive` found."""

    FRESH = "fresh"
    KNOWN = "known"
    CONFLICT = "conflict"
    """The same name came with another content; nothing was overwritten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStf:
    """An STF as it is taken in; identity is (namespace, run, filename)."""

    namespace: str
    run_id: str | int
    """As it came; its text is the identity."""
    filename: str
    sequence: int | None = None
    size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    execution_id: str | None = None
    body: str = "{}"
    """The whole message (or the monitor's row) as JSON text."""
    origin: Origin = Origin.MESSAGE
    born_at: datetime | None = None
    """When the STF was known to exist, if that was before now."""
    note: str | None = None
    """What its first history row says; else its origin."""
    stood: tuple[str, ...] = ()
    """Names of its TF files that stood in the monitor before we had done anything for it."""


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
    """The monitor's `tf_file_id`, once it is registered."""
    registered_at: str | None = None
    announced_at: str | None = None
    adopted: str | None = None
    """Where another writer was first: in what its row differed from ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stf:
    """One STF as it stands on disk, with its TF files."""

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
    admitted: bool
    """A person wants it processed although it was not selected."""
    state: str
    life: int
    since: str
    """When it came into its state."""
    received_at: str
    born_at: str
    due_at: str | None
    """When its next step may be taken; None means that it rests."""
    attempts: int
    spent_s: float
    """Seconds of its budget that it used up in this state by its own fault."""
    last_error: str | None
    remark: str | None
    plan: SamplePlan | None
    stood: tuple[str, ...] = ()
    """Names of its TF files that stood in the monitor before we had done anything for it."""
    tfs: tuple[Tf, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The sample was drawn."""

    plan: SamplePlan
    ranges: tuple[TfRange, ...]
    sizes: tuple[int | None, ...]
    """Bytes of each block, in the order of *ranges*; None where the STF's size is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One TF file stands in the monitor; what stands there is what we keep."""

    tf: Tf


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One TF file was announced and the other side confirmed it."""

    sequence: int


Fact = Sampled | Registered | Announced


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One transition of one STF."""

    life: int
    trigger: str | None
    """None: the row by which it was received."""
    source: str | None
    dest: str
    at: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run as we know it."""

    namespace: str
    run: str
    run_id: str | int
    state: str
    execution_id: str | None
    expected: int | None
    """How many STFs there were."""
    expected_by: str | None
    """The authority on *expected*: `end_run` (its `total_stf_files`) or `monitor` (what it names, settled)."""
    heard_at: str
    ended_at: str | None
    ended_by: str | None
    """How we know that it has ended."""
    nameless: bool
    """It was announced without filenames: the monitor alone names its STFs."""
    last_sequence: int | None
    """The highest number of an STF that was heard of."""
    look_at: str | None
    """When the monitor is to be asked for this run's STFs; None: not at all."""
    looks: int
    look_error: str | None
    named: int | None
    """How many STFs the monitor named at the last look."""
    absent: tuple[str, ...]
    """Of those the ones that we did not know, a thousand at most."""
    summary_at: str | None
    """When its summary was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A window in which a link was down (or held: it answers, but refuses us)."""

    link: str
    began_at: str
    ended_at: str | None
    reason: str
    held: bool
    next_probe_at: str | None
