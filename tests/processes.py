"""A testbed for tests of processes: broker and monitor in threads, the daemon as a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import requests

from fastmon_daemon.cli import main
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.preloaded import Program, may_preload, run

TOKEN = "f" * 40
TOPIC = "/topic/epictopic"
IN_PROCESS = frozenset(
    {
        "inspect",
        "verdict",
        "retry",
        "discard",
        "include",
        "replay",
        "purge",
        "export",
        "backup",
        "reload",
        "acts",
        "report",
    }
)
DEADLINE_S = 40.0
PRELOADED = ("fastmon_daemon", "fastmon_client")
"""What a testbed may start from the nursery of `tests.preloaded`: other programs change what is imported."""

Child = subprocess.Popen[bytes] | Program
T = TypeVar("T", bound="BaseTestbed")


def wait_until(condition: Callable[[], object], what: str = "", deadline_s: float = DEADLINE_S) -> None:
    """Wait until *condition* is true, checked every 50 ms. Raises: AssertionError after *deadline_s*."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        pause.wait(0.05)


@dataclass(frozen=True, kw_only=True)
class BrokerAccess:
    """Address of a broker, and how another agent publishes on the topic."""

    port: int
    publish: Callable[[str], None]
    host: str = "127.0.0.1"
    user: str = "daq"
    password: str = "secret-word"
    topic: str = TOPIC


class BaseTestbed:
    """Broker, monitor, and the folder of the daemon."""

    preloads = False
    """Whether its programs start from the nursery of `tests.preloaded`: not beside real brokers, nor in the matrix."""

    def __init__(self, folder: Path, monitor: MonitorThread, broker_access: BrokerAccess) -> None:
        self.folder = folder
        self.monitor = monitor
        self.broker_access = broker_access
        self.database = folder / "outbox.db"
        self.children: list[Child] = []
        self.run_pk = self.post("runs/", {"run_number": 100014, "start_time": "2026-11-21T20:56:56"})["run_id"]

    def environment(self, **changes: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "TMPDIR"}}
        broker = self.broker_access
        return inherited | {
            "HOME": str(self.folder), "SWF_MONITOR_URL": self.monitor.url, "SWF_API_TOKEN": TOKEN,
            "ACTIVEMQ_HOST": broker.host, "ACTIVEMQ_PORT": str(broker.port), "ACTIVEMQ_USER": broker.user,
            "ACTIVEMQ_PASSWORD": broker.password, "FASTMON_SUBSCRIBE": broker.topic, "FASTMON_ANNOUNCE": broker.topic,
            "FASTMON_NAMESPACE": "ns", "FASTMON_DB": str(self.database),
            "FASTMON_SELECTION_FRACTION": "1.0", "FASTMON_DURABLE": "on", **changes,
        }  # fmt: skip

    def start(
        self, *words: str, program: str = "fastmon_daemon", code: str = "", under: Sequence[str] = (),
        new_session: bool = False, **changes: str,
    ) -> Child:  # fmt: skip
        """Start a child process (*code* in place of *program*), by the command *under*; its stderr goes to `log`."""
        what = ("-c", code) if code else ("-m", program)
        with (self.folder / "log").open("ab") as log:
            options: Any = {
                "env": self.environment(**changes), "cwd": self.folder, "stdout": subprocess.PIPE,
                "start_new_session": new_session,
            }  # fmt: skip
            if self._preloads(program, changes) and not code and not under:
                child = Program([*what, *words], stderr=log, **options)
            else:
                child = subprocess.Popen([*under, sys.executable, *what, *words], stderr=log, **options)
        self.children.append(child)
        return child

    def daemon(
        self, *, program: str = "fastmon_daemon", under: Sequence[str] = (), new_session: bool = False, **changes: str
    ) -> Child:
        """Start the daemon and wait until it is subscribed."""
        seen = self.log().count("link to the broker is up")
        child = self.start("run", program=program, under=under, new_session=new_session, **changes)
        wait_until(
            lambda: self.log().count("link to the broker is up") > seen or child.poll() is not None, "the daemon is up"
        )
        return child

    def call(self, *words: str, program: str = "fastmon_daemon", **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; in this process if it does not configure logging, which saves half a second."""
        if program == "fastmon_daemon" and words[0] in IN_PROCESS:
            with chdir(self.folder):
                return run_in_process(words, self.environment(**changes))
        if self._preloads(program, changes):
            what = ["-m", program, *words]
            return run(what, env=self.environment(**changes), cwd=self.folder, timeout=DEADLINE_S)
        return subprocess.run(
            [sys.executable, "-m", program, *words], env=self.environment(**changes), cwd=self.folder,
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def _preloads(self, program: str, changes: Mapping[str, str]) -> bool:
        return self.preloads and program in PRELOADED and may_preload(changes)

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = requests.post(
            f"{self.monitor.url}/api/{path}", json=body, headers={"Authorization": f"Token {TOKEN}"}, timeout=20
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def rows(self, path: str) -> list[dict[str, Any]]:
        """Return a whole table of the monitor."""
        answer = requests.get(f"{self.monitor.url}/api/{path}/", timeout=20)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def register(self, *sequences: int) -> None:
        """Register STFs, as the data agent does."""
        for n in sequences:
            self.post("stf-files/", {"run": self.run_pk, "stf_filename": name(n)})

    def publish(self, message: dict[str, Any]) -> None:
        """Publish a message, as another agent does."""
        self.broker_access.publish(json.dumps({"namespace": "ns", **message}))

    def announce(self, *sequences: int) -> None:
        """Publish `stf_ready` of these STFs."""
        for n in sequences:
            self.publish({"msg_type": "stf_ready", "run_id": "100014", "filename": name(n), "sequence": n})

    def states(self) -> dict[str, int]:
        """State -> number of STFs, from the database."""
        if not self.database.exists():
            return {}
        reports = open_for_reading(self.database)
        try:
            return {state: count for state, count in reports.counts_by_state().items() if count}
        finally:
            reports.close()

    def wait_for(self, **states: int) -> None:
        """Wait until the numbers of STFs by state are exactly *states*."""
        wait_until(lambda: self.states() == states, f"{states}, but {self.states()}\n{self.log()[-3000:]}")


def run_in_process(words: Sequence[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, with only *environ* as its environment."""
    out, err, code = StringIO(), StringIO(), None
    with patch.dict(os.environ, environ, clear=True), patch.object(sys, "argv", ["fastmon-daemon", *words]):
        try:
            with redirect_stdout(out), redirect_stderr(err):
                main()
        except SystemExit as exc:
            code = exc.code
    return subprocess.CompletedProcess(words, code or 0, out.getvalue(), err.getvalue())  # type: ignore[arg-type]


def name(sequence: int) -> str:
    """Return the file name of STF number *sequence*."""
    return f"swf.100014.{sequence:06d}.stf"


class LiveTestbed(BaseTestbed):
    """A testbed with the embedded broker."""

    preloads = True

    def __init__(self, folder: Path, monitor: MonitorThread, broker: BrokerThread) -> None:
        self.broker = broker
        self.heard: list[str] = []
        """Bodies that the broker accepted."""
        publish = partial(self._publish, broker)
        super().__init__(folder, monitor, BrokerAccess(port=broker.port, publish=publish))

    @staticmethod
    def _publish(broker: BrokerThread, body: str) -> None:
        broker.call(lambda: broker.broker.publish(TOPIC, body))


@contextmanager
def live_testbed(folder: Path, publish: Callable[[dict[str, Any]], None] | None = None) -> Iterator[LiveTestbed]:
    """Run a testbed; its processes end with the block. With *publish* the monitor has ``/api/messages/``."""
    with MonitorThread(TOKEN, MonitorOptions(publish=publish)) as monitor:
        heard: list[str] = []

        def on_send(_destination: str, body: str, _headers: dict[str, str]) -> None:
            heard.append(body)
            monitor.deliver(body)

        server = Broker(user="daq", password="secret-word", on_send=on_send)
        with BrokerThread(server) as broker, ended(LiveTestbed(folder, monitor, broker)) as testbed:
            testbed.heard = heard
            yield testbed


@contextmanager
def ended(testbed: T) -> Iterator[T]:
    """Kill all child processes at the end of the block."""
    try:
        yield testbed
    finally:
        for child in testbed.children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
