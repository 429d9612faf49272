"""A shift: the embedded monitor with a run, and the real dashboard as a process that looks at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.living import DEADLINE_S, TOKEN

TF_FILES = 3


class Shift:
    """Plays the data agent and fastmon-daemon: registers files with the monitor, and announces them."""

    def __init__(self, monitor: MonitorThread, run: int = 100014) -> None:
        self.monitor = monitor
        self.run = run
        self.lag_s = 0.0
        """How long ago messages seem to have been sent."""
        self._pk = self._post("runs/", run_number=run, start_time=_now())["run_id"]

    def message(self, kind: str, **fields: Any) -> None:
        self.monitor.deliver(json.dumps({
            "msg_type": kind, "namespace": "epic", "run_id": str(self.run), "timestamp": _now(self.lag_s),
            "sender": "fastmon-agent-1", "processed_by": "fastmon-agent-1", **fields,
        }))  # fmt: skip

    def stf(
        self, sequence: int, *, registered: int = TF_FILES, announced: int = TF_FILES, fraction: float = 1.0,
        previous: int | None = None, name: str | None = None, tf_name: str | None = None,
    ) -> None:  # fmt: skip
        """An STF with so many TF files in the monitor; *announced* of them come over the stream."""
        stf = name or f"swf.{self.run}.{sequence:06d}.stf"
        self._post("stf-files/", run=self._pk, stf_filename=stf)
        for number in range(1, registered + 1):
            facts = {"tf_filename": tf_name or f"swf.{self.run}.{sequence:06d}_tf_{number:03d}.tf",
                     "tf_first": 100 * number, "tf_last": 100 * number + 20, "tf_count": 21,
                     "file_size_bytes": 50_400_000 + number, "status": "registered"}  # fmt: skip
            told = {"tf_files_per_stf": TF_FILES, "tf_count_per_stf": 1000, "selection_fraction": fraction}
            row = self._post("fastmon-files/", stf_file=stf, metadata=told, **facts)
            if number <= announced:
                self.message(
                    "tf_file_registered", tf_file_id=row["tf_file_id"], stf_filename=stf, stf_sequence=sequence,
                    tf_total=TF_FILES, selection_fraction=fraction,
                    previous_selected=sequence - 1 if previous is None else previous, **facts,
                )  # fmt: skip
            if tf_name:
                return

    def register_stf(self, sequence: int) -> None:
        """An STF of which fastmon has made nothing."""
        self._post("stf-files/", run=self._pk, stf_filename=f"swf.{self.run}.{sequence:06d}.stf")

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = requests.post(f"{self.monitor.url}/api/{path}", json=body, timeout=DEADLINE_S,
                               headers={"Authorization": f"Token {TOKEN}"})  # fmt: skip
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


def _now(before_s: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=before_s)).isoformat(timespec="milliseconds")


@contextmanager
def monitor() -> Iterator[MonitorThread]:
    """The embedded monitor; its stream beats once a second."""
    with MonitorThread(TOKEN, MonitorOptions(heartbeat_s=1.0)) as running:
        yield running


@contextmanager
def dashboard(of: MonitorThread, *options: str, **environment: str) -> Iterator[str]:
    """The URL of a dashboard that looks at the monitor *of*."""
    child = subprocess.Popen(
        [sys.executable, "-m", "fastmon_client", "dashboard", "--monitor-url", of.url, "--listen", "127.0.0.1:0",
         *options],
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "SWF_API_TOKEN": TOKEN, **environment},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        assert "http://" in line, f"the dashboard did not start: {line}"
        yield line[line.index("http://") :].split()[0]
    finally:
        child.terminate()
        try:
            assert child.wait(DEADLINE_S) == 0
        finally:
            child.kill()
            child.wait(DEADLINE_S)
            child.stdout.close()
