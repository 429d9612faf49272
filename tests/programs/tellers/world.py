"""A testbed with a DAQ that plays runs by hand, and what each teller says of them."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from fastmon_daemon.testbed.stomp_broker import Broker, BrokerThread
from tests.client.client_process import QUICK, Client, Dashboard
from tests.processes import TOKEN, LiveTestbed, ended, wait_until

HEADERS = {"Authorization": f"Token {TOKEN}"}
INTERVALS = QUICK | {"agents_s": 0.5, "end_timeout_s": 30.0, "silent_after_s": 20.0}
"""A daemon beats every 15 s."""
LONGEST_S = 180.0
"""For a step of the play, on a busy machine."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What one teller says of a run; None: it does not say it."""

    stfs: int
    """STFs with TF files."""
    tf_files: int
    skipped: int | None
    missing: int | None
    certain: bool
    """Whether it stands by its numbers."""


class TellersTestbed(LiveTestbed):
    """The testbed, its DAQ and its data agent."""

    def __init__(self, folder: Path, monitor: MonitorThread, broker: BrokerThread) -> None:
        super().__init__(folder, monitor, broker)
        self.is_deaf = False
        """Whether the monitor's stream loses every message."""
        self._keys: dict[int, int] = {}
        self._daemon: subprocess.Popen[bytes] | None = None

    def start_daemon(self, fraction: float = 1.0) -> None:
        """Start the daemon and wait until it is subscribed."""
        self._daemon = self.daemon(FASTMON_SELECTION_FRACTION=str(fraction), FASTMON_LATE_ANNOUNCE_RATE="0")

    def kill_daemon(self) -> None:
        """`kill -9`."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def stop_daemon(self) -> None:
        """SIGTERM."""
        assert self._daemon is not None
        self._daemon.terminate()
        self._daemon.wait()

    def begin(self, run: int) -> None:
        """Begin *run*: its row, its messages."""
        row = {"run_number": run, "start_time": datetime.now(UTC).isoformat()}
        self._keys[run] = self.post("runs/", row)["run_id"]
        for kind in ("run_imminent", "start_run"):
            self.publish({"msg_type": kind, "run_id": str(run), "execution_id": f"x-{run}"})

    def take(self, run: int, sequences: Iterable[int], *, register: bool = True, tell: bool = True) -> None:
        """Make STFs; those that are not told of are found in the table only."""
        for sequence in sequences:
            name = f"swf.{run}.{sequence:06d}.stf"
            message = {"run_id": str(run), "filename": name, "sequence": sequence}
            self.publish({"msg_type": "stf_gen", **message})
            if register:
                self.post("stf-files/", {"run": self._keys[run], "stf_filename": name})
            if tell:
                self.publish({"msg_type": "stf_ready", **message})

    def end(self, run: int, total: int) -> None:
        """End *run* by its message, then in the table."""
        self.publish({"msg_type": "end_run", "run_id": str(run), "total_stf_files": total})
        url = f"{self.monitor.url}/api/runs/{self._keys[run]}/"
        requests.patch(url, json={"end_time": datetime.now(UTC).isoformat()}, headers=HEADERS, timeout=20)

    def wait_until_complete(self, *runs: int) -> None:
        """Wait for the daemon's own verdict."""
        for run in runs:
            assert self.verdict(run, "--wait", str(LONGEST_S))["complete"], f"run {run} is complete"

    def wait_for_finalized(self, count: int) -> None:
        """Wait until *count* STFs are completed or skipped."""
        done = ("completed", "skipped")
        wait_until(lambda: sum(self.states().get(s, 0) for s in done) >= count, f"{count} STFs are done", LONGEST_S)

    def include(self, stf: str) -> None:
        """Process an STF that was skipped, as an operator does."""
        done = self.call("include", stf, "--reason", "wanted", "--yes")
        assert done.returncode == 0, done.stderr

    # The tellers

    def verdict(self, run: int, *options: str) -> dict[str, Any]:
        """The daemon's verdict as JSON; also without a daemon."""
        found = json.loads(self.call("verdict", str(run), "--json", *options).stdout or "{}")
        verdict = found[0] if isinstance(found, list) else found
        return {"complete": False, **verdict}

    def told_by_verdict(self, run: int) -> Told:
        found = self.verdict(run)
        lost = found["missing"] + found["failed"] + found["discarded"] + found["unfinished"]
        return Told(found["completed"], found["tf_files"]["registered"], found["skipped"], lost, found["complete"])

    def told_by_tables(self) -> dict[int, Told]:
        """By run: STFs with TF files and TF files, as the monitor's tables have them."""
        numbers = {key: run for run, key in self._keys.items()}
        runs = {row["stf_filename"]: numbers.get(row["run"]) for row in self.rows("stf-files")}
        files = Counter(row["stf_file"] for row in self.rows("fastmon-files"))
        found: dict[int, Counter[str]] = {run: Counter() for run in self._keys}
        for stf, count in files.items():
            if (run := runs[stf]) is not None:
                found[run].update(stfs=1, tf_files=count)
        return {run: Told(each["stfs"], each["tf_files"], None, None, True) for run, each in found.items()}

    def client(self, *options: str, command: str = "start") -> tuple[int, list[dict[str, Any]]]:
        """Run a client to its end; its exit code and its lines of JSON."""
        with Client(self.monitor.url, *options, "--json", token=TOKEN, command=command, **INTERVALS) as client:
            code, lines = client.ended(120)
        return code, [json.loads(line) for line in lines]


def told_by_row(row: Row) -> Told:
    """What a client's row says."""
    missing = None if row["stfs_missing"] is None else row["stfs_missing"] + row["stfs_incomplete"]
    certain = row["verified"] == "VERIFIED"
    return Told(row["stfs_seen"], row["tf_files"], row["stfs_skipped"], missing, certain)


def newest_snapshot(dashboard: Dashboard) -> dict[str, Any]:
    """The current snapshot of a dashboard, as its pages get it."""
    with requests.get(f"{dashboard.url}events", timeout=20, stream=True) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith(b"data: "))
    return dict(json.loads(line[6:]))


@contextmanager
def tellers_testbed(folder: Path) -> Iterator[TellersTestbed]:
    """Run the testbed."""
    with MonitorThread(TOKEN, MonitorOptions(heartbeat_s=0.5)) as monitor:
        made: list[TellersTestbed] = []

        def on_send(_destination: str, body: str, _headers: dict[str, str]) -> None:
            if made and not made[0].is_deaf:
                monitor.deliver(body)

        server = Broker(user="daq", password="secret-word", on_send=on_send)
        with BrokerThread(server) as broker, ended(TellersTestbed(folder, monitor, broker)) as testbed:
            made.append(testbed)
            yield testbed


class EarlyClient:
    """A client that is there from the start; the last row of each run, as it printed it."""

    def __init__(self, url: str, *options: str) -> None:
        self.client = Client(url, "--json", *options, token=TOKEN, **INTERVALS)
        self.lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.client.wait_for_log("connected to")

    def _read(self) -> None:
        for line in iter(self.client.line, ""):
            self.lines.append(json.loads(line))

    def end(self) -> dict[str, Any]:
        """Stop it; its summary."""
        self.client.signal(15)
        self._reader.join(60)
        return self.lines[-1]

    def __enter__(self) -> EarlyClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.signal(9)
        self._reader.join(60)
        self.client.__exit__(*exc)
