"""The demo: the main job under a kill -9 and an outage, with the daemon as a real process.

Owns the story and its clean end. It knows the daemon from outside: its command line, its environment, its database.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import requests

from fastmon_daemon.clock import Clock
from fastmon_daemon.errors import FastmonError, StorageError
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.outbox import Reports, Stf, open_for_reading
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.daq import Daq, Played, RunPlan
from fastmon_daemon.testbed.daq_messages import stf_name
from fastmon_daemon.testbed.demo_picture import Scene
from fastmon_daemon.testbed.demo_verdict import MonitorAsked, Verdict, judge
from fastmon_daemon.testbed.world import TOPIC, WorldOptions, WorldThread

OUTAGE_S = 5.0
DEAD_FOR_S = 1.0
PATIENCE_S = 120.0
START_S = 60.0
POLL_S = 0.1
_NOT_PASSED_ON = ("FASTMON_", "SWF_", "ACTIVEMQ_", "MQ_", "NOTIFY_", "STATE_DIRECTORY", "XDG_STATE", "JOURNAL_")


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What is played, and where it may write."""

    stf: int
    rate_hz: float
    folder: Path
    environ: Mapping[str, str]
    """The environment that the daemon inherits, without settings of ours in it."""


class DaemonProcess:
    """A `fastmon-daemon run` that can be killed and started again; its output goes to a file."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C is ours to deal with."""
        command = [sys.executable, "-m", "fastmon_daemon", "run"]
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                command, cwd=self._folder, env=dict(self._environ), stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """End it as a power cut would; nothing happens where none runs."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def check(self) -> None:
        """Raise `FastmonError` where it has ended by itself."""
        if self._process and self._process.poll() is not None:
            raise FastmonError(f"the daemon ended by itself with exit code {self._process.returncode}")

    def stop(self) -> None:
        """Ask it to end, and wait for it."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(START_S)
            except subprocess.TimeoutExpired as exc:
                raise FastmonError("the daemon did not end when asked to") from exc
            self._process = None


class Audience:
    """Hears the topic: which TF files were announced."""

    def __init__(self) -> None:
        self.announced: set[str] = set()

    def hear(self, _destination: str, body: str) -> None:
        """Take one message."""
        message = json.loads(body)
        if message.get("msg_type") == "tf_file_registered":
            self.announced.add(message["tf_file_id"])


class Demo:
    """Plays the story once. Inside its `with` block world and daemon may run; at its end nothing does."""

    def __init__(self, plan: DemoPlan, show: Callable[[Scene], None], clock: Clock) -> None:
        self._plan = plan
        self._show = show
        self._clock = clock
        self._began = clock.monotonic()
        self._happening = ""
        self._chart = load_chart("stf")
        self._states: dict[str, int] = {}
        self._kept: Reports | None = None
        self._audience = Audience()
        self._world = WorldThread(WorldOptions(overheard=self._audience.hear))
        self._pause = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._world)
        self._monitor = MonitorAsked(self._world.environment["SWF_MONITOR_URL"])
        self._stack.callback(self._monitor.close)
        self._settings = Settings.load(self._own_settings(), working_folder=self._plan.folder, home=self._plan.folder)
        self._daq = Daq(
            self._settings, RunPlan(stf=self._plan.stf, rate_hz=self._plan.rate_hz), self._clock, self._pause
        )
        inherited = {k: v for k, v in self._plan.environ.items() if not k.startswith(_NOT_PASSED_ON)}
        # HOME is the folder, so that no ~/.env of the user has a say.
        environ = {**inherited, **self._own_settings(), "HOME": str(self._plan.folder)}
        self._daemon = DaemonProcess(environ, self._plan.folder)
        self._stack.callback(self._daemon.kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._pause.set()
        if self._kept:
            self._kept.close()
        self._stack.close()

    def play(self) -> Verdict:
        """Play it to the end and judge.

        Raises `FastmonError` where there is nothing to judge.
        """
        self._happening = "broker and monitor run; the daemon starts"
        self._daemon.start()
        self._until(lambda: bool(self._world.world.broker.subscriptions(TOPIC)), START_S)
        with ThreadPoolExecutor(1, thread_name_prefix="daq") as pool:
            played = pool.submit(self._daq.play)
            try:
                self._story(played)
            finally:
                self._pause.set()
        self._happening = "the daemon is asked to stop"
        self._until(lambda: True, POLL_S)
        self._daemon.stop()
        return self._verdict()

    def _story(self, played: Future[Played]) -> None:
        self._happening = "the DAQ sends"
        self._until(lambda: self._daq.played.generated * 3 >= self._plan.stf, START_S)
        self._daemon.kill()
        self._happening = "the daemon is killed with -9"
        self._rest(DEAD_FOR_S)
        self._happening = "the daemon starts again, the DAQ goes on"
        self._daemon.start()
        two_thirds = self._plan.stf / self._plan.rate_hz + START_S
        self._until(lambda: self._daq.played.generated * 3 >= self._plan.stf * 2, two_thirds)
        self._monitor.set_faults(down_s=OUTAGE_S)
        self._happening = f"the monitor is away for {OUTAGE_S:.0f} s"
        self._rest(OUTAGE_S)
        self._happening = "all is well again"
        self._until(lambda: played.done() and self._all_rest(), PATIENCE_S + self._plan.stf / self._plan.rate_hz)
        if played.done():
            played.result()

    def _until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Show what happens until *condition* is true (True) or *patience_s* are over (False)."""
