"""The harness of the reconciler's tests: reconciler, engine and message handler, with clocks that the test moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.engine import Engine
from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import StfFile, StfListing, TfFile
from fastmon_daemon.monitor.directory import Agent, Statement
from fastmon_daemon.outbox import Outbox, RunRow, Stf
from fastmon_daemon.reconciler.comparing import ReconcileResult
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.reconciler.verdict import Verdict, judge
from fastmon_daemon.runs.peers import PeerDirectory
from fastmon_daemon.runs.poll_state import ReconcilerIntervals
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeMonitor, FakeTestbed, Inline, NewOf, handle, listing_of, named

CHARTS = (load_statechart("stf"), load_statechart("run"))


class RunsMonitor(FakeMonitor):
    """The fake monitor with a table of STFs, runs, and the end time of one run."""

    def __init__(self) -> None:
        super().__init__()
        self.stfs: dict[str, StfFile] = {}
        self.ended_at: str | None = None
        self.polls = 0
        self.counts = 0
        """Polls that asked for the count alone."""
        self.lookups: list[str] = []
        self.list_trouble: Exception | None = None
        self.end_trouble: Exception | None = None
        self.lookup_trouble: dict[str, Exception] = {}
        self.runs = [100012, 100013]
        self.run_listings = 0

    def stf_files(
        self, run_number: int, at_least: int = 0, new_of: NewOf = lambda names: names, most: int | None = None
    ) -> StfListing:
        self.polls += 1
        self.probe()
        if self.list_trouble:
            raise self.list_trouble
        return listing_of(self.stfs.values() if run_number == 100014 else (), new_of, most)

    def stf_count(self, run_number: int) -> tuple[int, int | None]:
        self.polls += 1
        self.counts += 1
        self.probe()
        if self.list_trouble:
            raise self.list_trouble
        return len(self.stfs) if run_number == 100014 else 0, 77 if self.stfs else None

    def run_numbers(self) -> list[int]:
        self.run_listings += 1
        self.probe()
        return self.runs

    def run_ended_at(self, run_key: int) -> str | None:
        assert run_key == 77
        if self.end_trouble:
            raise self.end_trouble
        return self.ended_at

    def tf_files(self, stf_filename: str) -> list[TfFile]:
        self.lookups.append(stf_filename)
        self.probe()
        if stf_filename in self.lookup_trouble:
            raise self.lookup_trouble[stf_filename]
        return [tf for tf in self.rows.values() if tf.stf_filename == stf_filename]


class PausablePool(Inline):
    """A pool whose calls wait while it is `paused`."""

    def __init__(self) -> None:
        self.paused = False
        self.calls: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self.paused:
            return super().submit(fn, *args, **kwargs)
        self.calls.append(partial(fn, *args, **kwargs))
        return Future()

    def resume(self) -> None:
        self.paused = False
        while self.calls:
            self.calls.pop(0)()


def file_name(sequence: int) -> str:
    return f"swf.100014.{sequence:06d}.stf"


@dataclass
class Harness(FakeTestbed):
    """A reconciler with engine and message handler; `start` replaces them, as after a restart of the daemon."""

    monitor: RunsMonitor = field(default_factory=RunsMonitor)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    polls_all_runs: bool = True
    intervals: ReconcilerIntervals = field(default_factory=ReconcilerIntervals)
    disk_is_short: bool = False
    workers: int = 4
    pool: PausablePool = field(default_factory=PausablePool)
    agents: dict[str, Agent] = field(default_factory=dict)
    """The other daemons, as the monitor lists them."""
    shared_queue: str = ""
    recovers: bool = True

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the next process."""
        self.live_outbox = self.outbox()
        self.runs = tracked = TrackedRuns()
        self.handler = MessageHandler(
            self.folder / "outbox.db", "ns", "fastmon-agent-test-1", CHARTS, runs=tracked, clock=self.time.clock(),
            shares_queue=bool(self.shared_queue),
        )  # fmt: skip
        monitor: Any = self.monitor
        breakers = self.breakers(self.live_outbox)
        config = ReconcilerConfig(
            monitor=monitor, database=self.live_outbox.path, charts=CHARTS, polls_all_runs=self.polls_all_runs,
            intervals=self.intervals, clock=self.time.clock(),
            agent_name="fastmon-agent-test-1", announce=self.send_summary, announce_link="announcements",
            is_selected=lambda _run, sequence, name: is_selected(self.settings.selection_fraction, sequence, name),
            refuse_if_short=self.refuse_if_short,
            allows_calls=breakers.allows_calls,
            recovers=lambda: self.recovers,
            peers=PeerDirectory(
                self.list_agents, "fastmon-agent-test-1", "ns", destination=self.shared_queue, clock=self.time.clock()
            ),
        )  # fmt: skip
        self.reconciler = Reconciler(config, tracked)
        self.live_engine: Engine = self.engine(
            self.live_outbox,
            breakers=breakers,
            background_tasks=self.reconciler.tasks,
            workers=self.workers,
            pool=self.pool,
        )
        self.reconciler.listening.begin(self.live_outbox)

    def list_agents(self) -> tuple[list[Agent], datetime]:
        self.monitor.probe()
        return list(self.agents.values()), self.time.at

    def beat(self, name: str, *, done_s: float = 0.0, **changes: Any) -> None:
        """Another daemon of the queue sends a heart-beat: it is done with what it received until *done_s* ago."""
        done_before = format_timestamp(self.time.at - timedelta(seconds=done_s))
        usual: dict[str, Any] = {
            "kind": "fastmon", "namespace": "ns", "status": "OK", "host": "far", "beat_at": self.time.at,
            "statement": Statement(done_before, "off", self.shared_queue),
        }  # fmt: skip
        self.agents[name] = Agent(name=name, **{**usual, **changes})

    def registered_by(self, agent: str, *sequences: int, files: int = 7) -> None:
        """The daemon *agent* received these STFs now, and has registered *files* of their seven TF files."""
        metadata = {
            "namespace": "ns", "agent_name": agent, "received_at": format_timestamp(self.time.at), "tf_files_per_stf": 7
        }  # fmt: skip
        for n in sequences:
            for tf in range(1, files + 1):
                name = file_name(n).replace(".stf", f"_tf_{tf:03d}.tf")
                self.monitor.rows[name] = TfFile(
                    tf_filename=name, stf_filename=file_name(n), tf_first=1, tf_last=2, tf_count=2,
                    file_size_bytes=None, metadata=metadata, tf_file_id=f"{n}-{tf}",
                )  # fmt: skip

    def refuse_if_short(self) -> None:
        if self.disk_is_short:
            raise StorageUnavailable("10 MB free: make room")

    def send_summary(self, body: str, _event_id: str) -> None:
        self.summaries.append(json.loads(body))

    def register(self, *sequences: int) -> None:
        """The data agent registers these STFs with the monitor."""
        for n in sequences:
            self.monitor.stfs[file_name(n)] = StfFile(
                stf_filename=file_name(n), file_size_bytes=None, checksum=None, tf_count=500,
                created_at=format_timestamp(self.time.at), body="{}", run_key=77,
            )  # fmt: skip

    def deliver(self, kind: str, **fields: object) -> None:
        """Deliver a message."""
        handle(self.handler, json.dumps({"msg_type": kind, "namespace": "ns", "run_id": "100014", **fields}))

    def process(self, kind: str, **fields: object) -> None:
        """Deliver a message, and process it."""
        self.deliver(kind, **fields)
        self.tick()

    def stf_ready(self, *sequences: int) -> None:
        """Deliver the messages of these STFs one after the other, and process them."""
        for n in sequences:
            self.process("stf_ready", filename=file_name(n), sequence=n)

    def tick(self, count: int = 12) -> None:
        """Tick the engine *count* times, or until nothing is in flight."""
        for _ in range(count):
            if not self.live_engine.tick(0):
                return

    def pass_time(self, seconds: float) -> None:
        """Advance the clocks, and tick the engine every second (at most a hundred times)."""
        steps = min(int(seconds), 100)
        for _ in range(steps):
            self.time.pass_(seconds=seconds / steps)
            self.tick(4)
        self.tick()

    def begin_lookup(self) -> None:
        """Advance the clocks until a lookup is in flight; its answer waits for `pool.resume`."""
        for _ in range(400):
            self.time.pass_(seconds=0.25)
            polls = self.monitor.polls
            self.live_engine.tick(0)
            if self.monitor.polls == polls:
                continue
            self.pool.paused = True  # the next tick stores the result of the poll and starts the lookups
            self.live_engine.tick(0)
            if self.pool.calls:
                return
            self.pool.paused = False
        raise AssertionError("no lookup started")

    def reconcile(self, by: str) -> Callable[[Outbox, datetime], ReconcileResult]:
        """An action for the engine's inbox: the operator *by* reconciles the run."""
        listing = self.reconciler.list_run(100014, "100014", "ns", recovering=set())
        return self.reconciler.reconcile("100014", "ns", listing, by)

    def purge(self) -> None:
        """An operator purges the run."""
        request = ActionRequest(action="purge", by="bob", run="100014")
        outcome = self.live_engine.inbox.submit(
            partial(OperatorActions(CHARTS[0], self.handler, alone=False).perform, request)
        )
        self.live_engine.tick(0)
        assert outcome.result(0).done == ["100014"]
        assert self.live_outbox.runs.get("ns", "100014") is None

    @property
    def row(self) -> RunRow:
        row = self.live_outbox.runs.get("ns", "100014")
        assert row is not None
        return row

    @property
    def verdict(self) -> Verdict:
        return judge(self.live_outbox.runs, self.row, CHARTS, self.time.at)

    def stf(self, sequence: int) -> Stf:
        return named(self.live_outbox, file_name(sequence))

    def first_note(self, sequence: int) -> str | None:
        return self.live_outbox.history(self.stf(sequence).id)[0].note

    def known(self) -> Sequence[str]:
        return sorted(stf.filename for stf in self.live_outbox.find(run="100014"))
