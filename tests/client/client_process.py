"""The client as a process, and an embedded monitor whose tables and stream the test fills."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import requests

from fastmon_client.intervals import Intervals
from fastmon_daemon.base.clock import Clock, utcnow
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from fastmon_daemon.testbed.monitor.file_tables import FASTMON_FILES, RUNS, STF_FILES
from tests.client.scripted_server import DEADLINE_S
from tests.preloaded import Program
from tests.processes import wait_until

TOKEN = "0123456789abcdef0123456789abcdef01234567"
RUN = 100014
PER_STF = 7
QUICK: dict[str, float] = {
    "heart_beat_s": 0.5, "compare_s": 1.0, "settle_s": 0.1, "retry_s": 0.3, "runs_s": 1.0, "min_age_s": 0.5,
    "grace_s": 3.0, "end_grace_s": 2.0, "query_hz": 1000.0, "tick_s": 0.1, "overlap_s": 0.5, "reconnect_s": 0.1,
}  # fmt: skip


class Client:
    """A running client; `log_lines` is its stderr."""

    def __init__(
        self, url: str, *options: str, token: str = TOKEN, stdout: int = subprocess.PIPE, command: str = "start",
        environ: Mapping[str, str] | None = None, **intervals: float,
    ) -> None:  # fmt: skip
        self.log_lines: list[str] = []
        self._news = threading.Condition()
        program = (
            "from fastmon_client.cli import main; from fastmon_client.intervals import Intervals;"
            f"main({Intervals(**intervals)!r})"
        )
        self._process = Program(
            ["-c", program, command, "--monitor-url", url, *options],
            env={"PATH": os.environ["PATH"], "HOME": os.devnull, "SWF_API_TOKEN": token, **(environ or {})}, text=True,
            stdout=stdout, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read_along)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_log(self, text: str, times: int = 1) -> None:
        def is_said() -> bool:
            return sum(text in line for line in self.log_lines) >= times

        with self._news:
            assert self._news.wait_for(is_said, DEADLINE_S), self.log_lines

    def line(self) -> str:
        return self._process.stdout.readline().rstrip("\n")

    def close_stdout(self) -> None:
        self._process.stdout.close()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait_until_blocked(self) -> None:
        """Wait until its unread stdout pipe is at least half full."""
        pipe = self._process.stdout.fileno()

        def is_half_full() -> bool:
            [unread] = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
            return unread > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) / 2

        wait_until(is_half_full, "the pipe is half full")

    def exit_code(self) -> int:
        """Wait for it, without reading its stdout."""
        return self._process.wait(DEADLINE_S)

    def ended(self, deadline_s: float = DEADLINE_S) -> tuple[int, list[str]]:
        """The exit code, and the unread lines of stdout."""
        out = self._process.stdout
        rest = [] if out is None or out.closed else out.read().splitlines()
        code = self._process.wait(deadline_s)
        self._reader.join(DEADLINE_S)
        assert TOKEN not in "".join([*self.log_lines, *rest])
        assert "Traceback" not in "".join(self.log_lines)
        return code, rest

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_along(self) -> None:
        for line in self._process.stderr:
            with self._news:
                self.log_lines.append(line)
                self._news.notify_all()


class Dashboard(Client):
    """A running dashboard; it prints its URL."""

    def __init__(self, url: str, *options: str, listen: str = "127.0.0.1:0", **more: Any) -> None:
        super().__init__(url, "--listen", listen, *options, command="dashboard", **more)
        self.url = self.line().removeprefix("dashboard ").split()[0].replace("0.0.0.0", "127.0.0.1")

    def until(self, state: str, recent: str = "") -> dict[str, Any]:
        """The first snapshot with that connection state and recent TF file."""
        with requests.get(f"{self.url}events", timeout=DEADLINE_S, stream=True) as answer:
            for line in answer.iter_lines():
                found = json.loads(line[6:]) if line.startswith(b"data: ") else None
                names = ["", *(each["tf_filename"] for each in found["recent"])] if found else []
                if recent in names and found["connection"]["state"] == state:
                    return dict(found)
        raise AssertionError(f"never {state}")


class Experiment:
    """Data agent, daemon and monitor in one: registers STFs and TF files, and announces them over the stream.

    New rows are *age_s* old: by default old enough for a verdict.
    """

    def __init__(
        self, run: int = RUN, fraction: float = 1.0, per_stf: int = PER_STF, *, age_s: float = 60.0,
        heartbeat_s: float = 0.5,
    ) -> None:  # fmt: skip
        clock = Clock(now=lambda: utcnow() - timedelta(seconds=age_s))
        self.monitor = MonitorThread(TOKEN, MonitorOptions(heartbeat_s=heartbeat_s, clock=clock))
        self.run, self.fraction = run, fraction
        self.per_stf = per_stf

    def __enter__(self) -> Experiment:
        self.monitor.__enter__()
        self.begin_run(self.run)
        return self

    def __exit__(self, *exc: Any) -> None:
        self.monitor.__exit__(*exc)

    def begin_run(self, run: int) -> None:
        self.run = run
        row = {"run_number": run, "start_time": self.monitor.server.store.now().isoformat()}
        self._pk = self.monitor.call(lambda: self.monitor.server.store.create(RUNS, row))["run_id"]

    def end_in_table(self) -> None:
        store = self.monitor.server.store
        row = {"end_time": store.now().isoformat()}
        self.monitor.call(lambda: store.update(RUNS, self._pk, row, partial=True))

    def stf(self, sequence: int) -> str:
        return f"swf.{self.run}.{sequence:06d}.stf"

    def register_stfs(self, *sequences: int) -> None:
        """Register STFs without TF files."""
        self._register([self.stf(sequence) for sequence in sequences])

    def publish(
        self, *sequences: int, registered: int | None = None, announced: int | None = None, stf: str = "",
        tf: str = "", lag_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Register and announce STFs and their TF files, *lag_s* ago; by default all `per_stf` of them."""
        self._register([stf or self.stf(sequence) for sequence in sequences])
        for sequence in sequences:
            for message in self.register_tfs(sequence, registered, stf=stf, tf=tf, lag_s=lag_s)[:announced]:
                self.monitor.deliver(message)

    def register_tfs(
        self, sequence: int, count: int | None = None, *, stf: str = "", tf: str = "", lag_s: float = 0.0
    ) -> list[str]:
        """Register the TF files of an STF; returns their announcements."""
        store, stf = self.monitor.server.store, stf or self.stf(sequence)
        metadata = {
            "tf_files_per_stf": self.per_stf, "tf_count_per_stf": 1000, "selection_fraction": self.fraction,
            "agent_name": "fastmon-agent-1", "namespace": "epic",
        }  # fmt: skip
        numbers = range(1, (count or self.per_stf) + 1)
        names = [tf] if tf else [f"swf.{self.run}.{sequence:06d}_tf_{number:03d}.tf" for number in numbers]
        first = {"stf_file": stf, "tf_filename": names[0], "file_size_bytes": 50_400_000, "metadata": metadata}

        def create() -> list[dict[str, Any]]:
            """One as the monitor does, the others as copies, for speed."""
            table, row = store.tables["fastmon-files"], store.create(FASTMON_FILES, first)
            others = [row | {"tf_file_id": table.new_key(), "tf_filename": name} for name in names[1:]]
            for other in others:
                table.put(other["tf_file_id"], other)
            return [row, *others]

        made = self.monitor.call(create)
        return [self._announcement(sequence, row, lag_s) for row in made]

    def send(self, kind: str, **more: Any) -> None:
        self.monitor.deliver(self._message(kind, more))

    def _register(self, stfs: list[str]) -> None:
        rows = [{"run": self._pk, "stf_filename": stf} for stf in stfs]
        self.monitor.call(lambda: [self.monitor.server.store.create(STF_FILES, row) for row in rows])

    def _announcement(self, sequence: int, row: dict[str, Any], lag_s: float) -> str:
        facts = {key: row[key] for key in ("tf_file_id", "tf_filename", "file_size_bytes")}
        return self._message("tf_file_registered", facts | {
            "tf_first": 1, "tf_last": 2, "stf_filename": row["stf_file"], "stf_sequence": sequence,
            "timestamp": (utcnow() - timedelta(seconds=lag_s)).isoformat(), "tf_total": self.per_stf,
            "selection_fraction": self.fraction, "event_id": f"e{row['tf_file_id']}", "status": "registered",
            "processed_by": "fastmon-agent-1",
        })  # fmt: skip

    def _message(self, kind: str, more: dict[str, Any]) -> str:
        return json.dumps({"msg_type": kind, "namespace": "epic", "run_id": str(self.run)} | more)
