"""One function per step of the statechart: it takes an STF and returns the calls that the step still needs.

A call uses one link (or none) and returns the result to store; a step without calls is done. This module knows no
names of states, no retries and no SQL.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from fastmon_daemon.base.clock import Clock, format_timestamp, parse_timestamp
from fastmon_daemon.base.errors import ParentNotRegistered, PermanentError
from fastmon_daemon.engine import sampling
from fastmon_daemon.engine.parents import Parents, run_to_check
from fastmon_daemon.engine.selection_fractions import SelectionFractions
from fastmon_daemon.messages import Send, TfFileRegistered, outbound_message, run_number
from fastmon_daemon.monitor import MonitorClient, StfFile, TfFile
from fastmon_daemon.outbox import Announced, Origin, Registered, Sampled, StepResult, Stf, Tf
from fastmon_daemon.outbox.models import SamplePlan
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import StateMachine

LATE_AFTER = timedelta(minutes=1)
"""Announcements of STFs older than this are marked `late`."""

ORPHANED_AFTER_S = 840.0
"""With FASTMON_REGISTER_MISSING_STF we register an STF that nobody else registered within this time, in seconds.

It is just below the engine's budget: the STF would fail soon."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """A decision that a call returns instead of a result: its trigger and the reason."""

    trigger: str
    note: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A call that was sent: *result* is true when *confirmed* is done."""

    result: StepResult
    confirmed: Future[None]


Call = Callable[[], StepResult | StepOutcome | Sent]
"""One network call, the unit of work of the pool. It is idempotent, because it may run again after a crash."""

Step = Callable[[Stf], Sequence[Call]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The rules for every STF, and the clock. Raises: StatechartError if *chart* and *steps* differ."""

    chart: StateMachine
    steps: Mapping[str, Step]
    links: Mapping[str, str]
    """Step -> the link that its calls need; a step that is missing here needs none."""
    in_process_retry: Callable[[Call], StepResult | StepOutcome | Sent]
    """Makes a call, with its immediate retries before its failure counts."""
    together: Callable[[], AbstractContextManager[None]] = nullcontext
    """What calls over a link of `PIPELINED` send in this context is sent at its end, in one piece."""
    late_rate: float = 0.0
    """Announcements of late STFs per second; 0: no limit."""
    clock: Clock = field(default_factory=Clock)
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        self.chart.check_steps(set(self.steps))


def is_late(stf: Stf, now: datetime) -> bool:
    """Whether an STF was recovered or is older than `LATE_AFTER`: its announcements are marked and rate-limited."""
    return stf.origin is Origin.RECOVERED or now - parse_timestamp(stf.born_at) > LATE_AFTER


def make_steps(
    settings: Settings,
    agent_name: str,
    monitor: MonitorClient,
    announce: Send,
    clock: Clock,
    parents: Parents | None = None,
    fractions: SelectionFractions | None = None,
) -> dict[str, Step]:
    """The steps by name; *parents* is shared with whoever purges runs, *fractions* with whoever changes them."""
    fractions = fractions or SelectionFractions(settings.selection_fraction)
    registration = _Registration(settings, agent_name, monitor, parents or Parents(monitor, agent_name), fractions)

    def sample_tfs(stf: Stf) -> list[Call]:
        return [] if stf.plan else [lambda: _sample(stf, settings, fractions.of(stf.namespace, stf.run))]

    def register_tfs(stf: Stf) -> list[Call]:
        pending = [tf for tf in stf.tfs if tf.registered_at is None]
        if pending and len(pending) == len(stf.tfs):  # if the STF is not registered, this costs one call, not seven
            return [partial(registration.register_first, stf)]
        metadata = registration.metadata(stf) if pending else {}
        return [partial(registration.register, stf, tf, metadata) for tf in pending]

    def notify_clients(stf: Stf) -> list[Call]:
        if settings.notify == "off" or (stf.tfs and set(stf.preexisting).issuperset(tf.filename for tf in stf.tfs)):
            return []  # preexisting TF files were announced before our rows were pruned or lost

        def call(tf: Tf) -> Announced | Sent:
            fraction = fractions.of(stf.namespace, stf.run)
            confirmed = announce(*tf_file_registered(stf, tf, agent_name, fraction, clock.now()))
            announced = Announced(sequence=tf.sequence)
            return announced if confirmed is None else Sent(announced, confirmed)

        return [partial(call, tf) for tf in stf.tfs if tf.announced_at is None]

    def close_stf(stf: Stf) -> list[Call]:
        if missing := [tf.filename for tf in stf.tfs if tf.monitor_id is None]:
            raise PermanentError(f"TF files without a monitor id: {', '.join(missing)}")
        return []

    return {step.__name__: step for step in (sample_tfs, register_tfs, notify_clients, close_stf)}


def _sample(stf: Stf, settings: Settings, fraction: float) -> StepResult | StepOutcome:
    if not sampling.gets_tf_files(fraction, stf):
        return StepOutcome("skip", f"not selected: FASTMON_SELECTION_FRACTION is {fraction}")
    plan = SamplePlan(
        seed=sampling.seed_of(stf.namespace, stf.run, stf.filename),
        tf_count=stf.tf_count or settings.tf_count_per_stf,
        tf_files=settings.tf_files_per_stf,
        size_fraction=settings.tf_size_fraction,
        sequence_start=settings.tf_sequence_start,
    )
    return _draw(plan, stf.filename, stf.size_bytes)


class _Registration:
    """The calls of `register_tfs`."""

    def __init__(
        self,
        settings: Settings,
        agent_name: str,
        monitor: MonitorClient,
        parents: Parents,
        fractions: SelectionFractions,
    ) -> None:
        self._settings = settings
        self._agent_name = agent_name
        self._monitor = monitor
        self._parents = parents
        self._fractions = fractions

    def register_first(self, stf: Stf) -> Registered:
        """Make sure of the STF itself, draw its sample again if the monitor's row says more, and register one TF."""
        row = self._parents.prepare(stf, may_register=self._may_register(stf))
        stf, sample = _by_row(stf, row) if row else (stf, None)
        return replace(self.register(stf, stf.tfs[0], self.metadata(stf)), sample=sample)

    def metadata(self, stf: Stf) -> dict[str, object]:
        """The metadata of the TF files of an STF."""
        return _metadata(stf, self._agent_name, self._fractions.of(stf.namespace, stf.run))

    def register(self, stf: Stf, tf: Tf, metadata: dict[str, object]) -> Registered:
        """Register one TF."""
        ours = _tf_file(stf, tf, metadata)
        try:
            row, difference = self._monitor.register_tf(ours)
        except ParentNotRegistered:
            if not self._may_register(stf):
                raise
            self._parents.register(stf)
            row, difference = self._monitor.register_tf(ours)
        return _registered(tf, row, difference)

    def _may_register(self, stf: Stf) -> bool:
        """Whether we may register the STF itself."""
        orphaned = self._settings.register_missing_stf and stf.spent_s >= ORPHANED_AFTER_S
        return orphaned or stf.origin is Origin.FILE


def _by_row(stf: Stf, row: StfFile) -> tuple[Stf, Sampled | None]:
    """The STF with what *row* says where its message says nothing, and its sample, if it has to be drawn again."""
    tf_count, size_bytes = (
        stf.tf_count or row.tf_count,
        row.file_size_bytes if stf.size_bytes is None else stf.size_bytes,
    )
    if stf.plan is None or (tf_count, size_bytes) == (stf.tf_count, stf.size_bytes):
        return stf, None
    plan = replace(stf.plan, tf_count=tf_count or stf.plan.tf_count)
    sample = replace(_draw(plan, stf.filename, size_bytes), tf_count=tf_count, size_bytes=size_bytes)
    return sample.of(stf), sample


def _draw(plan: SamplePlan, filename: str, size_bytes: int | None) -> Sampled:
    ranges = sampling.draw_sample(plan, filename)
    sizes = tuple(sampling.block_bytes(size_bytes, plan.tf_count, block.count) for block in ranges)
    return Sampled(plan=plan, ranges=ranges, sizes=sizes)


def _tf_file(stf: Stf, tf: Tf, metadata: dict[str, object]) -> TfFile:
    """What the monitor is to store of one TF file."""
    return TfFile(
        tf_filename=tf.filename,
        stf_filename=stf.filename,
        run_number=run_to_check(stf),
        tf_first=tf.first,
        tf_last=tf.last,
        tf_count=tf.count,
        file_size_bytes=tf.size_bytes,
        metadata=metadata,
    )


def _registered(tf: Tf, row: TfFile, difference: str | None) -> Registered:
    """The result of a registration: *tf* as the monitor has it in *row*."""
    as_registered = replace(
        tf,
        first=row.tf_first,
        last=row.tf_last,
        count=row.tf_count,
        size_bytes=row.file_size_bytes,
        monitor_id=row.tf_file_id,
        adopted=difference or None,
    )
    return Registered(tf=as_registered)


def _metadata(stf: Stf, agent_name: str, fraction: float) -> dict[str, object]:
    """The metadata of a TF file: the keys of the previous agent, and all inputs of the sample."""
    body = json.loads(stf.body)
    fields: dict[str, object] = {
        "simulation": True,
        "created_from": stf.filename,
        "agent_name": agent_name,
        "namespace": stf.namespace,
        "received_at": stf.received_at,  # other daemons compare it with our heart-beats, see `monitor.directory`
        "selection_fraction": fraction,
        **{key: body.get(key) for key in ("state", "substate", "start", "end")},
    }
    if stf.plan:
        fields |= {
            "tf_size_fraction": stf.plan.size_fraction,
            "tf_files_per_stf": stf.plan.tf_files,
            "tf_count_per_stf": stf.plan.tf_count,
            "tf_sequence_start": stf.plan.sequence_start,
            "sampling_seed": stf.plan.seed,
            "sampling_version": stf.plan.version,
        }
    return fields


def tf_file_registered(stf: Stf, tf: Tf, sender: str, fraction: float, now: datetime) -> tuple[str, str]:
    """Return the announcement of one TF file, and its event id: the same for every announcement of the file."""
    if tf.monitor_id is None:
        raise PermanentError(f"TF file not registered, cannot announce it: {tf.filename}")
    fields: TfFileRegistered = {
        "status": "registered",
        "namespace": stf.namespace,
        "run_id": stf.run_id,
        "run_number": run_number(stf.run_id),
        "execution_id": stf.execution_id,
        "tf_file_id": tf.monitor_id,
        "tf_filename": tf.filename,
        "tf_first": tf.first,
        "tf_last": tf.last,
        "tf_count": tf.count,
        "file_size_bytes": tf.size_bytes,
        "tf_sequence": tf.sequence,
        "tf_total": len(stf.tfs),
        "stf_filename": stf.filename,
        "stf_sequence": stf.sequence,
        "selection_fraction": fraction,
        "previous_selected": sampling.previous_selected(fraction, stf.sequence),  # those in between were skipped
        "late": is_late(stf, now),
    }
    return outbound_message("tf_file_registered", tf.monitor_id, sender, format_timestamp(now), fields)
