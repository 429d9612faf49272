"""The demo: the main job under a kill -9 and an outage, with the daemon as a real process.

Owns the story and its clean end. It knows the daemon from outside: its process, and its database to read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.outbox import OutboxReader, Stf, open_for_reading
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.daq import Daq, Played, RunPlan
from fastmon_daemon.testbed.daq_messages import stf_name
from fastmon_daemon.testbed.demo_daemon import DaemonProcess, inherited
from fastmon_daemon.testbed.demo_display import DemoState
from fastmon_daemon.testbed.demo_verdict import DemoVerdict, MonitorReader, judge
from fastmon_daemon.testbed.testbed import TOPIC, TestbedOptions, TestbedThread

OUTAGE_S = 5.0
DEAD_FOR_S = 1.0
START_S = 60.0
PATIENCE_S = 120.0
"""How long the last STF may take after the last one was due."""
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What is played, and where it may write."""

    stf: int
    rate_hz: float
    folder: Path
    """Of the database and the logs."""
    environ: Mapping[str, str]
    """What the daemon inherits, but for settings of ours in it."""


class AnnouncementListener:
    """Hears the topic: which TF files were announced."""

    def __init__(self) -> None:
        self.announced: set[str] = set()

    def hear(self, _destination: str, body: str) -> None:
        """Take one message."""
        message = json.loads(body)
        if message.get("msg_type") == "tf_file_registered":
            self.announced.add(message["tf_file_id"])


class OutboxObserver:
    """The daemon's database, read from outside while the daemon runs and when it is dead."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reports: OutboxReader | None = None

    def close(self) -> None:
        """Give the connection back."""
        if self._reports:
            self._reports.close()
            self._reports = None

    def counts(self) -> dict[str, int]:
        """State -> STFs in it; empty while there is no database to read."""
        try:
            return self._opened().counts_by_state()
        except (StorageError, sqlite3.Error):
            self.close()
            return {}

    def stfs(self) -> list[Stf]:
        """All STFs."""
        return self._opened().list_stfs(limit=-1)

    def _opened(self) -> OutboxReader:
        self._reports = self._reports or open_for_reading(self._path)
        return self._reports


class Demo:
    """Plays the story once. Inside its `with` block world and daemon may run; at its end nothing does."""

    def __init__(self, plan: DemoPlan, show: Callable[[DemoState], None], clock: Clock) -> None:
        self._plan = plan
        self._show = show
        self._clock = clock
        self._began = clock.monotonic()
        self._happening = ""
        self._chart = load_statechart("stf")
        self._audience = AnnouncementListener()
        self._world = TestbedThread(TestbedOptions(overheard=self._audience.hear))
        self._outbox = OutboxObserver(plan.folder / "outbox.db")
        self._pause, self._daq_stopping = threading.Event(), threading.Event()
        self._kills = self._outages = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self._plan.folder
        self._stack.enter_context(self._world)
        environ = self._world.environment | {
            "FASTMON_SELECTION_FRACTION": "1.0",
            "FASTMON_DB": str(folder / "outbox.db"),
            "HOME": str(folder),  # so that no .env of the user has a say
        }
        self._settings = Settings.load(environ, working_folder=folder, home=folder)
        plan = RunPlan(stf=self._plan.stf, rate_hz=self._plan.rate_hz)
        self._daq = Daq(self._settings, plan, self._clock, self._daq_stopping)
        self._monitor = MonitorReader(self._settings.monitor_url)
        self._stack.callback(self._monitor.close)
        self._daemon = DaemonProcess(inherited(self._plan.environ) | environ, folder)
        self._stack.callback(self._daemon.kill)
        self._stack.callback(self._outbox.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self) -> DemoVerdict:
        """Play it to the end and judge.

        Raises `FastmonError` where daemon or DAQ ended by themselves.
        """
        self._happening = "broker and monitor run, the daemon starts"
        self._daemon.start()
        self._until(self._daemon_listens, START_S)
        with ThreadPoolExecutor(1, thread_name_prefix="daq") as pool:
            played = pool.submit(self._daq.play)
            try:
                self._story(played)
            finally:
                self._daq_stopping.set()
        self._happening = "the daemon is asked to stop"
        self._look()
        self._daemon.stop()
        return self._verdict()

    def _story(self, played: Future[Played]) -> None:
        taking_data_s = START_S + self._plan.stf / self._plan.rate_hz
        self._happening = "the DAQ sends"
        self._until(lambda: played.done() or self._share_sent() >= 1 / 3, taking_data_s)
        self._daemon.kill()
        self._kills += 1
        self._happening = "the daemon is killed with -9"
        self._until(lambda: False, DEAD_FOR_S)
        self._happening = "the daemon is started again, the DAQ goes on"
        self._daemon.start()
        self._until(lambda: played.done() or self._share_sent() >= 2 / 3, taking_data_s)
        self._monitor.set_faults(down_s=OUTAGE_S)
        self._outages += 1
        self._happening = f"the monitor is away for {OUTAGE_S:.0f} s"
        self._until(lambda: False, OUTAGE_S)
        self._happening = "all is well again"
        self._until(
            lambda: played.done() and (self._all_rest() or bool(played.exception())), taking_data_s + PATIENCE_S
        )
        if played.done():
            played.result()

    def _until(self, condition: Callable[[], bool], patience_s: float) -> None:
        """Show what happens until *condition* is true, or for *patience_s*."""
        end = self._clock.monotonic() + patience_s
        self._look()
        while not condition() and self._clock.monotonic() < end:
            self._pause.wait(POLL_S)
            self._daemon.check()
            self._look()

    def _look(self) -> None:
        found = self._outbox.counts()
        counts = self._world.counts()
        scene = DemoState(
            seconds=self._seconds(),
            happening=self._happening,
            stf_planned=self._plan.stf,
            stf_generated=self._daq.played.generated,
            states={state: found.get(state, 0) for state in self._chart.states},
            tf_registered=counts["fastmon_files"],
            tf_expected=self._plan.stf * self._settings.tf_files_per_stf,
            announcements=counts["announcements"],
            stages=counts["stages"],
            heartbeats=counts["heartbeats"],
        )
        self._show(scene)

    def _daemon_listens(self) -> bool:
        return any(each.active for each in self._world.world.broker.subscriptions(TOPIC))

    def _share_sent(self) -> float:
        return self._daq.played.generated / self._plan.stf

    def _all_rest(self) -> bool:
        counts = self._outbox.counts()
        resting = sum(number for state, number in counts.items() if self._chart.is_finalized(state))
        return resting == sum(counts.values()) == self._plan.stf

    def _seconds(self) -> float:
        return round(self._clock.monotonic() - self._began, 1)

    def _verdict(self) -> DemoVerdict:
        sent = self._daq.played.ready
        names = [stf_name(self._daq.played.run, sequence) for sequence in range(1, sent + 1)]
        kept = self._outbox.stfs()
        found = judge(self._monitor, names, kept, self._audience.announced, self._settings.tf_files_per_stf)
        goal = self._chart.success_state
        return DemoVerdict(
            stf_sent=sent,
            stf_completed=sum(stf.state == goal for stf in kept),
            tf_expected=sent * self._settings.tf_files_per_stf,
            announcements=self._monitor.announcements(),
            kills=self._kills,
            outages=self._outages,
            seconds=self._seconds(),
            **asdict(found),
        )
