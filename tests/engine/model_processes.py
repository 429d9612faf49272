"""The system under the model-based test: one process after the other on one database, and the model."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from fastmon_daemon.actions.operator_actions import OperatorActions
from fastmon_daemon.engine import LinkEvent
from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.builders import FakeTestbed, handle
from tests.engine import model_world as model
from tests.engine.model_world import (
    CHART,
    LINK_OF,
    FaultyBroker,
    FaultyMonitor,
    Snapshot,
    run_message,
    stf_name,
    stf_ready,
)

WORKERS = 4
TFS = 3
FRACTION = 0.7


class Processes:
    """The model knows the accepted messages, the samples, and how many announcements may be repeated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.monitor, self.broker = FaultyMonitor(), FaultyBroker()
        settings = Settings(namespace="ns", selection_fraction=FRACTION, tf_files_per_stf=TFS)
        self.testbed = FakeTestbed(self.folder, monitor=self.monitor, settings=settings)
        self.testbed.announce = self.broker.announce  # type: ignore[method-assign]
        self.testbed.probe_broker = self.broker.probe  # type: ignore[method-assign]
        self.accepted: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.rejected: set[str] = set()
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.others: set[str] = set()
        """TF files that another agent registered before us."""
        self.in_doubt = 0
        """Announcements that may be repeated: the calls in flight at each kill."""

    def start(self) -> None:
        """Start a process."""
        self.outbox = self.testbed.outbox()
        charts, clock, monitor = (CHART, load_statechart("run")), self.testbed.time.clock(), self.monitor
        runs = TrackedRuns()
        self.intake = MessageHandler(
            self.folder / "outbox.db", "ns", "fastmon-agent-test-1", charts, runs=runs, clock=clock
        )  # fmt: skip
        breakers = self.testbed.breakers(self.outbox)
        config = ReconcilerConfig(
            monitor=monitor, database=self.outbox.path, charts=charts, clock=clock,
            is_selected=lambda _run, sequence, name: is_selected(FRACTION, sequence, name),
            allows_calls=breakers.allows_calls,
            agent_name="a", announce=self.broker.announce_summary, announce_link="announcements",
        )  # type: ignore[arg-type]  # fmt: skip
        reconciler = Reconciler(config, runs)
        self.engine = self.testbed.engine(
            self.outbox, workers=WORKERS, late_rate=20.0, breakers=breakers, background_tasks=reconciler.tasks
        )
        self.actions = OperatorActions(CHART, self.intake, alone=False)
        self.broker.report = self._report_broker
        self.broker.report(self.broker.up)

    def _report_broker(self, up: bool) -> None:
        for link in ("broker", "announcements"):
            self.engine.inbox.report_link(LinkEvent(link, up=up, reason="" if up else "cut"))

    def kill(self, in_flight: int) -> None:
        """Kill the process, and start the next one."""
        self.in_doubt += in_flight
        self.outbox.close()
        self.start()

    def accept(self, number: int, size: int = 0) -> None:
        """The broker delivers a message, which is acknowledged when this returns."""
        name, body = stf_name(number), stf_ready(number, size)
        handle(self.intake, body)
        self.accepted.add(name)
        if self.sizes.setdefault(name, size or 1000 * number) != (size or 1000 * number):
            self.rejected.add(body)

    def tick(self) -> None:
        """One tick. It moves no STF that needs a link whose circuit breaker is open."""
        tripped = {
            link for link in LINK_OF.values() if not self.engine.busy and not self.engine.breakers.allows_calls(link)
        }
        before = Snapshot.of(self.outbox).stfs if tripped else {}
        self.engine.tick(0)
        tripped = {link for link in tripped if not self.engine.breakers.allows_calls(link)}
        after = Snapshot.of(self.outbox).stfs if tripped else {}
        for name, row in before.items():
            if LINK_OF.get(row["state"]) in tripped:
                assert after[name] == row, f"{name} changed although its circuit breaker was open"

    def check(self) -> None:
        snapshot = Snapshot.of(self.outbox)
        assert self.accepted <= set(snapshot.stfs) <= self.accepted | set(self.monitor.known)
        assert snapshot.rejected == self.rejected
        for name, row in snapshot.stfs.items():
            assert row["size_bytes"] == self.sizes.setdefault(name, row["size_bytes"])
            # No outage counts as an attempt, and an announcement can only fail because of the link.
            assert row["attempts"] <= (self.monitor.blamed[name] if LINK_OF.get(row["state"]) == "monitor" else 0)
            assert (row["due_at"] is None) == CHART.is_finalized(row["state"])
            model.check_history(snapshot.history[name], row["state"])
            model.check_failures(snapshot.history[name], self.monitor.blamed[name])
            model.check_sample(
                self.samples.setdefault(name, snapshot.tfs[name]) if row["plan"] else [], snapshot.tfs[name]
            )
            for tf in snapshot.tfs[name]:
                model.check_registered(tf, self.monitor, self.others)
                assert not tf["announced_at"] or self.broker.announced[tf["filename"]]
        repeated = self.broker.announced.total() - len(self.broker.announced)
        assert repeated <= self.in_doubt + self.broker.lost_receipts

    def heal(self, numbers: Iterable[int]) -> None:
        """End all faults, register all of *numbers*, and let time pass: then no work remains."""
        self.monitor.down = self.monitor.blocked = False
        self.monitor.faults, self.broker.faults = [], []
        self.monitor.trouble.clear()
        for number in numbers:
            self.monitor.registers(number)
        self.broker.come_up()
        handle(self.intake, run_message("end_run", total_stf_files=8))
        for _ in range(100):
            for _ in range(60):
                self.engine.tick(0)
                if self.engine.idle:
                    break
            snapshot = Snapshot.of(self.outbox)
            if (
                not self.outbox.unfinished()
                and set(self.monitor.known) <= set(snapshot.stfs)
                and snapshot.run_is_settled(count=8)
            ):
                break
            self.testbed.time.pass_(seconds=61)
        self.check()
        snapshot = Snapshot.of(self.outbox)
        model.check_end(snapshot, self.monitor, TFS, partial(is_selected, FRACTION))
        assert snapshot.run_is_settled(count=8)
        assert self.broker.summaries >= bool(snapshot.run and snapshot.run["summary_at"])
