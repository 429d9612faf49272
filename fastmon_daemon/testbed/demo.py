"""The demo: one run through the whole chain, with a kill -9 and a monitor outage; the daemon is a real process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.daq import Daq, DaqProgress, RunPlan
from fastmon_daemon.testbed.daq_messages import stf_name
from fastmon_daemon.testbed.demo_daemon import DaemonProcess, OutboxObserver, inherited
from fastmon_daemon.testbed.demo_display import DemoState
from fastmon_daemon.testbed.demo_verdict import DemoVerdict, MonitorReader, judge
from fastmon_daemon.testbed.testbed import TOPIC, TestbedOptions, TestbedThread

OUTAGE_S = 5.0
RESTART_DELAY_S = 1.0
START_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 120.0
"""How long the STFs may take to finish after the DAQ was due to send the last one."""
STAGES_TIMEOUT_S = 60.0
"""How long the workflow stages of the last STFs may take to be reported."""
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What the demo plays, and where it writes."""

    stf: int
    """Number of STFs."""
    rate_hz: float
    folder: Path
    """For the database and the logs."""
    environ: Mapping[str, str]
    """Environment of the daemon; variables that configure a daemon are left out."""


class AnnouncementListener:
    """Collects the ids of the TF files that the daemon announces."""

    def __init__(self) -> None:
        self.announced: set[str] = set()

    def on_message(self, _destination: str, body: str) -> None:
        """Note the TF file if *body* is an announcement."""
        message = json.loads(body)
        if message.get("msg_type") == "tf_file_registered":
            self.announced.add(message["tf_file_id"])


class Demo:
    """Plays the demo once. Testbed and daemon run at most as long as its `with` block."""

    def __init__(self, plan: DemoPlan, show: Callable[[DemoState], None], clock: Clock) -> None:
        self._plan = plan
        self._show = show
        self._clock = clock
        self._began = clock.monotonic()
        self._phase = ""
        self._chart = load_statechart("stf")
        self._listener = AnnouncementListener()
        self._testbed = TestbedThread(TestbedOptions(on_message=self._listener.on_message))
        self._outbox = OutboxObserver(plan.folder / "outbox.db")
        self._pause, self._daq_stopping = threading.Event(), threading.Event()
        self._kills = self._outages = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self._plan.folder
        self._stack.enter_context(self._testbed)
        environ = self._testbed.environment | {
            "FASTMON_SELECTION_FRACTION": "1.0",
            "FASTMON_DB": str(folder / "outbox.db"),
            "HOME": str(folder),  # the user's .env must not apply
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
        """Play the demo to its end and return the verdict. Raises: FastmonError if the daemon or the DAQ fails."""
        self._phase = "broker and monitor are running; starting the daemon"
        self._daemon.start()
        self._show_until(self._daemon_is_subscribed, START_TIMEOUT_S)
        with ThreadPoolExecutor(1, thread_name_prefix="daq") as pool:
            playing = pool.submit(self._daq.play)
            try:
                self._play_with_faults(playing)
            finally:
                self._daq_stopping.set()
        self._phase = "all STFs are finished; waiting for their workflow stages"
        self._show_until(self._all_stages_reported, STAGES_TIMEOUT_S)
        self._phase = "stopping the daemon"
        self._show_state()
        self._daemon.stop()
        return self._verdict()

    def _play_with_faults(self, playing: Future[DaqProgress]) -> None:
        sending_timeout_s = START_TIMEOUT_S + self._plan.stf / self._plan.rate_hz
        self._phase = "the DAQ sends"
        self._show_until(lambda: playing.done() or self._share_sent() >= 1 / 3, sending_timeout_s)
        self._daemon.kill()
        self._kills += 1
        self._phase = "the daemon was killed with -9; the DAQ goes on"
        self._show_until(lambda: False, RESTART_DELAY_S)
        self._phase = "the daemon restarts"
        self._daemon.start()
        self._show_until(lambda: playing.done() or self._share_sent() >= 2 / 3, sending_timeout_s)
        self._monitor.set_faults(down_s=OUTAGE_S)
        self._outages += 1
        self._phase = f"the monitor is down for {OUTAGE_S:.0f} s"
        self._show_until(lambda: False, OUTAGE_S)
        self._phase = "the monitor is up again; the daemon catches up"
        self._show_until(
            lambda: playing.done() and (self._all_finalized() or bool(playing.exception())),
            sending_timeout_s + FINISH_TIMEOUT_S,
        )
        if playing.done():
            playing.result()

    def _show_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Show the state every 0.1 s until *condition* is true or *timeout_s* is over."""
        end = self._clock.monotonic() + timeout_s
        self._show_state()
        while not condition() and self._clock.monotonic() < end:
            self._pause.wait(POLL_S)
            self._daemon.check()
            self._show_state()

    def _show_state(self) -> None:
        by_state = self._outbox.counts()
        counts = self._testbed.counts()
        state = DemoState(
            seconds=self._seconds(),
            phase=self._phase,
            stf_planned=self._plan.stf,
            stf_generated=self._daq.progress.generated,
            states={state: by_state.get(state, 0) for state in self._chart.states},
            tf_registered=counts["fastmon_files"],
            tf_expected=self._plan.stf * self._settings.tf_files_per_stf,
            announcements=counts["announcements"],
            stages=counts["stages"],
            heartbeats=counts["heartbeats"],
        )
        self._show(state)

    def _daemon_is_subscribed(self) -> bool:
        return any(each.active for each in self._testbed.testbed.broker.subscriptions(TOPIC))

    def _share_sent(self) -> float:
        return self._daq.progress.generated / self._plan.stf

    def _all_finalized(self) -> bool:
        counts = self._outbox.counts()
        finalized = sum(number for state, number in counts.items() if self._chart.is_finalized(state))
        return finalized == sum(counts.values()) == self._plan.stf

    def _all_stages_reported(self) -> bool:
        """Whether no report is pending, and the monitor has each completed STF's stage as complete, if reportable."""
        pending, unreportable = self._outbox.stages() or (1, 0)
        return not pending and len(self._complete_stages()) + unreportable >= self._completed()

    def _complete_stages(self) -> set[str]:
        return self._monitor.stages(self._chart.reported_as(self._chart.success_state) or "")

    def _completed(self) -> int:
        return self._outbox.counts().get(self._chart.success_state, 0)

    def _seconds(self) -> float:
        return round(self._clock.monotonic() - self._began, 1)

    def _verdict(self) -> DemoVerdict:
        sent = self._daq.progress.ready
        names = [stf_name(self._daq.progress.run, sequence) for sequence in range(1, sent + 1)]
        stored = self._outbox.stfs()
        state = judge(self._monitor, names, stored, self._listener.announced, self._settings.tf_files_per_stf)
        return DemoVerdict(
            stf_sent=sent,
            stf_completed=self._completed(),
            tf_expected=sent * self._settings.tf_files_per_stf,
            announcements=self._monitor.announcements(),
            stages_complete=len(self._complete_stages() & set(names)),
            stages_unreportable=(self._outbox.stages() or (0, 0))[1],
            kills=self._kills,
            outages=self._outages,
            seconds=self._seconds(),
            **asdict(state),
        )
