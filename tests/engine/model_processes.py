"""What the model-based test drives: one process after the other over one database, and the model beside them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from fastmon_daemon.actions.operator_actions import OperatorActions
from fastmon_daemon.engine import LinkEvent
from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.reconciler.config import ReconcilerConfig, SummaryRoute
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from tests.builders import World
from tests.engine import model_world as model
from tests.engine.model_world import CHART, LINK_OF, FaultyBroker, FaultyMonitor, Seen, run_message, stf_name, stf_ready

WORKERS = 4
TFS = 3
FRACTION = 0.7


class Processes:
    """The model is what was acknowledged, which samples were seen, and what may have been announced twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.monitor, self.broker = FaultyMonitor(), FaultyBroker()
        told = Settings(namespace="ns", selection_fraction=FRACTION, tf_files_per_stf=TFS)
        self.world = World(self.folder, monitor=self.monitor, settings=told)
        self.world.announce = self.broker.announce  # type: ignore[method-assign]
        self.world.probe_broker = self.broker.probe  # type: ignore[method-assign]
        self.accepted: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.refused: set[str] = set()
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.others: set[str] = set()
        """TFs that another agent registered before us."""
        self.in_doubt = 0
        """Announcements that may be made again: those in flight at each death."""

    def start(self) -> None:
        """A process begins."""
        self.outbox = self.world.outbox()
        charts, clock, monitor = (CHART, load_statechart("run")), self.world.time.clock(), self.monitor
        runs = TrackedRuns()
        self.intake = MessageHandler(
            self.folder / "outbox.db", "ns", "fastmon-agent-test-1", charts, runs=runs, clock=clock
        )  # fmt: skip
        breakers = self.world.breakers(self.outbox)
        config = ReconcilerConfig(
            monitor=monitor, charts=charts, clock=clock, is_selected=partial(is_selected, FRACTION),
            allows_calls=breakers.allows_calls,
            summary_route=SummaryRoute(sender="a", link="broker", announce=self.broker.tell_summary),
        )  # type: ignore[arg-type]  # fmt: skip
        ledger = Reconciler(config, runs)
        self.engine = self.world.engine(
            self.outbox, workers=WORKERS, late_rate=20.0, breakers=breakers, task_sources=[ledger]
        )
        self.acts = OperatorActions(CHART, self.intake, alone=False)
        self.broker.tell = lambda up: self.engine.inbox.report_link(
            LinkEvent("broker", up=up, reason="" if up else "cut")
        )
        self.broker.tell(self.broker.up)

    def die(self, in_flight: int) -> None:
        """The process ends without a word, and the next one begins."""
        self.in_doubt += in_flight
        self.outbox.close()
        self.start()

    def accept(self, number: int, size: int = 0) -> None:
        """The broker delivers a message, which is acknowledged when `accept` returns."""
        name, body = stf_name(number), stf_ready(number, size)
        self.intake.handle(body)
        self.accepted.add(name)
        if self.sizes.setdefault(name, size or 1000 * number) != (size or 1000 * number):
            self.refused.add(body)

    def turn(self) -> None:
        """One turn, in which nothing that needs a shut gate is touched."""
        shut = {
            link for link in LINK_OF.values() if not self.engine.busy and not self.engine.breakers.allows_calls(link)
        }
        before = Seen.of(self.outbox).stfs if shut else {}
        self.engine.tick(0)
        shut = {link for link in shut if not self.engine.breakers.allows_calls(link)}
        after = Seen.of(self.outbox).stfs if shut else {}
        for name, row in before.items():
            if LINK_OF.get(row["state"]) in shut:
                assert after[name] == row, f"{name} was touched with its gate shut"

    def check(self) -> None:
        seen = Seen.of(self.outbox)
        assert self.accepted <= set(seen.stfs) <= self.accepted | set(self.monitor.known)
        assert seen.refused == self.refused
        for name, row in seen.stfs.items():
            assert row["size_bytes"] == self.sizes.setdefault(name, row["size_bytes"])
            # No outage burns an attempt; and nothing but its link can be at fault where an STF is to be announced.
            assert row["attempts"] <= (self.monitor.blamed[name] if LINK_OF.get(row["state"]) == "monitor" else 0)
            assert (row["due_at"] is None) == CHART.is_finalized(row["state"])
            model.check_history(seen.history[name], row["state"])
            model.check_failures(seen.history[name], self.monitor.blamed[name])
            model.check_sample(self.samples.setdefault(name, seen.tfs[name]) if row["plan"] else [], seen.tfs[name])
            for tf in seen.tfs[name]:
                model.check_registered(tf, self.monitor, self.others)
                assert not tf["announced_at"] or self.broker.announced[tf["filename"]]
        repeated = self.broker.announced.total() - len(self.broker.announced)
        assert repeated <= self.in_doubt + self.broker.lost_receipts

    def heal(self, numbers: Iterable[int]) -> None:
        """All faults end, the data agent registers all of *numbers*, and time passes: nothing is owed at the end."""
        self.monitor.down = self.monitor.blocked = False
        self.monitor.mishaps, self.broker.mishaps = [], []
        self.monitor.trouble.clear()
        for number in numbers:
            self.monitor.registers(number)
        self.broker.comes()
        self.intake.handle(run_message("end_run", total_stf_files=8))
        for _ in range(100):
            for _ in range(60):
                self.engine.tick(0)
                if self.engine.idle:
                    break
            seen = Seen.of(self.outbox)
            if not self.outbox.unfinished() and set(self.monitor.known) <= set(seen.stfs) and seen.is_closed(count=8):
                break
            self.world.time.pass_(seconds=61)
        self.check()
        seen = Seen.of(self.outbox)
        model.check_end(seen, self.monitor, TFS, partial(is_selected, FRACTION))
        assert seen.is_closed(count=8)
        assert self.broker.summaries >= bool(seen.run and seen.run["summary_at"])
