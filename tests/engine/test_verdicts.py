"""Which answers of the monitor are a verdict on an STF: nonsense never fails one, however long it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmon_daemon.engine import Engine
from fastmon_daemon.engine.outliers import MIN_FAILURES
from fastmon_daemon.engine.steps import make_steps
from fastmon_daemon.engine.transitions import BUDGET_S
from fastmon_daemon.monitor import MonitorClient
from fastmon_daemon.outbox import Stf
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.monitor.file_tables import STF_FILES
from tests.builders import FakeTestbed, logged, named, settle
from tests.hostile.hostile_monitor import HostileMonitor
from tests.monitor.test_stf_registrar import TOKEN, post

RUN, MINUTES = 100014, 40
ODD = f"swf.{RUN}.000001.stf"
TF = ODD.replace(".stf", "_tf_001.tf")
ROW = {"tf_file_id": 1, "stf_file": ODD, "tf_filename": TF, "tf_first": 0, "tf_last": 1, "tf_count": 2,
       "file_size_bytes": None}  # fmt: skip


class Lab(FakeTestbed):
    """An engine, the real client, and the embedded monitor behind a front that changes its answers about one STF."""

    front: HostileMonitor
    running: Engine

    def attach(self, server: MonitorThread, front: HostileMonitor) -> None:
        self.front = front
        self.client = MonitorClient(front.url, lambda: TOKEN, connections=2)
        run = post(server, "runs", {"run_number": RUN, "start_time": "2026-11-21T21:56:56"})["run_id"]
        stfs = [f"swf.{RUN}.{n:06d}.stf" for n in range(1, MINUTES + 2)]
        rows = [{"run": run, "stf_filename": stf, "status": "registered"} for stf in stfs]
        server.call(lambda: [server.server.store.create(STF_FILES, row) for row in rows])
        settings = Settings(namespace="ns", selection_fraction=1.0, tf_files_per_stf=1)
        steps = make_steps(settings, "a", self.client, self.announce, self.time.clock())
        self.live = self.outbox()
        self.running = self.engine(self.live, steps=steps, probes={"monitor": self.client.probe})

    def answer(self, status: int, body: bytes) -> None:
        """Answer each request about the TF file of `ODD` so."""

        def change(method: str, path: str, _status: int, said: bytes) -> tuple[int, bytes] | None:
            return (status, body) if TF in path or (method == "POST" and TF.encode() in said) else None

        self.front.change = change

    def work(self) -> Stf:
        """Process STFs for `MINUTES`, `ODD` first; return `ODD`."""
        for n in range(1, MINUTES + 1):
            self.receive(self.live, n)
            settle(self.running)
            self.time.pass_(minutes=1)
        assert {named(self.live, f"swf.{RUN}.{n:06d}.stf").state for n in range(2, MINUTES)} == {"completed"}
        return named(self.live, ODD)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with MonitorThread(TOKEN) as server, HostileMonitor(server.url) as front:
        lab = Lab(tmp_path)
        lab.attach(server, front)
        yield lab
        lab.client.close()
        lab.live.close()


ROWS = [
    json.dumps([{**ROW, "tf_first": {"a": 1}}]), json.dumps([{**ROW, "tf_file_id": [7]}]),
    json.dumps([{"tf_filename": TF}]),
]  # fmt: skip
LISTS = ["[7]", "[" * 100_000, "<html>", "", '[{"tf_filename": "%s' % ("x" * 3_000_000)]


@pytest.mark.parametrize("body", ROWS + LISTS)
def test_nonsense_about_one_stf_never_fails_it(lab: Lab, body: str) -> None:
    assert BUDGET_S < 60 * MINUTES
    lab.answer(200, body.encode())
    with logged("WARNING") as lines:
        odd = lab.work()
    assert (odd.state, odd.attempts > 5, odd.spent_s) == ("sampled", True, 0.0)
    assert "unexpected content" in (odd.last_error or "")
    assert (f"in the row of {TF}" in (odd.last_error or "")) == (body in ROWS)
    assert any(line.startswith(f"{ODD}: attempt 1 failed") for line in lines)
    assert sum("is down" in line for line in lines) <= 2 * MIN_FAILURES < odd.attempts
    lab.front.change = lambda *_: None
    lab.time.pass_(minutes=2)
    settle(lab.running)
    assert named(lab.live, ODD).state == "completed"


def test_a_tf_that_exists_but_is_not_listed_never_fails_its_stf(lab: Lab) -> None:
    exists = b'{"tf_filename": ["fast mon file with this tf filename already exists."]}'
    lab.front.change = lambda method, path, _status, said: (
        (200, b"[]") if TF in path else (400, exists) if method == "POST" and TF.encode() in said else None
    )
    odd = lab.work()
    assert (odd.state, odd.spent_s) == ("sampled", 0.0)
    assert "does not list it" in (odd.last_error or "")


def test_a_field_that_the_monitor_rejects_fails_the_stf_at_once(lab: Lab) -> None:
    lab.answer(400, b'{"file_size_bytes": ["A valid biginteger is required."]}')
    lab.receive(lab.live, 1)
    settle(lab.running)
    assert (named(lab.live, ODD).state, named(lab.live, ODD).attempts) == ("failed", 0)


@pytest.mark.parametrize("key", [None, {"a": 1}, 10**24, 4711])
def test_a_run_that_the_monitor_does_not_have_fails_no_stf(lab: Lab, key: object) -> None:
    """The first answer lists nothing, the second an STF of a run that is none."""
    row = {"stf_filename": ODD, "run": key}

    def change(_method: str, path: str, _status: int, _said: bytes) -> tuple[int, bytes] | None:
        if f"stf_filename={ODD}" not in path:
            return None
        return 200, json.dumps([] if "run_number" in path else [row]).encode()

    lab.front.change = change
    lab.receive(lab.live, 1)
    for _ in range(MINUTES):
        settle(lab.running)
        lab.time.pass_(minutes=1)
    odd = named(lab.live, ODD)
    assert (odd.state, odd.spent_s) == ("sampled", 0.0)
    assert f"the monitor lists {ODD} in the run with key" in (odd.last_error or "")
