"""Registration of STFs that nobody else registers, against the embedded monitor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from fastmon_daemon.engine.steps import ORPHANED_AFTER_S, make_steps
from fastmon_daemon.engine.transitions import BUDGET_S
from fastmon_daemon.monitor import MonitorClient, StfRegistrar, TfFile
from fastmon_daemon.outbox import Origin
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import FakeTestbed, named, settle

TOKEN = "f" * 40
BEGAN = "2026-11-21T20:00:00.000+00:00"


@pytest.fixture
def embedded() -> Iterator[tuple[MonitorThread, MonitorClient]]:
    with MonitorThread(TOKEN) as server:
        monitor = MonitorClient(server.url, lambda: TOKEN, connections=4)
        yield server, monitor
        monitor.close()


def rows(server: MonitorThread, table: str) -> list[dict[str, Any]]:
    return list(requests.get(f"{server.url}/api/{table}/", timeout=20).json())


def post(server: MonitorThread, table: str, row: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Token {TOKEN}"}
    answer = requests.post(f"{server.url}/api/{table}/", json=row, headers=headers, timeout=20)
    assert answer.status_code == 201
    return dict(answer.json())


def delete(server: MonitorThread, row: str) -> None:
    answer = requests.delete(f"{server.url}/api/{row}/", headers={"Authorization": f"Token {TOKEN}"}, timeout=20)
    assert answer.status_code == 204


def stf(number: int) -> dict[str, Any]:
    return {"stf_filename": f"swf.7.{number:06d}.stf", "file_size_bytes": 9}


def test_an_unknown_run_is_created_once(embedded: tuple[MonitorThread, MonitorClient]) -> None:
    server, monitor = embedded
    registrar = StfRegistrar(monitor)
    assert [registrar.register(7, BEGAN, stf(number)) for number in (1, 2, 2)] == [True, True, False]
    StfRegistrar(monitor).register(7, BEGAN, stf(3))  # of the next process, without a cache
    assert [run["run_number"] for run in rows(server, "runs")] == [7]
    assert sorted(row["stf_filename"][-10:] for row in rows(server, "stf-files")) == [
        "000001.stf", "000002.stf", "000003.stf",
    ]  # fmt: skip


def test_a_run_without_stfs_is_found_in_the_list_of_runs(embedded: tuple[MonitorThread, MonitorClient]) -> None:
    server, monitor = embedded
    post(server, "runs", {"run_number": 6, "start_time": BEGAN})
    key = post(server, "runs", {"run_number": 7, "start_time": BEGAN})["run_id"]
    StfRegistrar(monitor).register(7, BEGAN, stf(1))
    assert [row["run"] for row in rows(server, "stf-files")] == [key]


def test_characters_that_the_monitor_cannot_store_are_replaced(
    embedded: tuple[MonitorThread, MonitorClient],
) -> None:
    server, monitor = embedded
    metadata = {"state": "run\0", "start": "\ud800 \\u0000 é"}
    StfRegistrar(monitor).register(7, BEGAN, {**stf(1), "metadata": metadata})
    name = stf(1)["stf_filename"]
    monitor.register_tf(
        TfFile(
            tf_filename="a.tf",
            stf_filename=name,
            tf_first=0,
            tf_last=1,
            tf_count=2,
            file_size_bytes=9,
            metadata=metadata,
        )
    )
    for table in ("stf-files", "fastmon-files"):
        (row,) = rows(server, table)
        assert row["metadata"]["state"] == "run\N{REPLACEMENT CHARACTER}"
        assert row["metadata"]["start"].startswith("? ")
        assert row["metadata"]["start"].endswith(" é")


def real_steps(testbed: FakeTestbed, monitor: MonitorClient, **changes: Any) -> Any:
    """The engine's steps with a real client of the monitor."""
    settings = Settings(namespace="ns", selection_fraction=1.0, tf_files_per_stf=2, **changes)
    return make_steps(settings, "fastmon-agent-test-1", monitor, testbed.announce, testbed.time.clock())


def test_an_unregistered_stf_is_registered_just_before_it_would_fail(
    embedded: tuple[MonitorThread, MonitorClient], tmp_path: Path
) -> None:
    server, monitor = embedded
    post(server, "runs", {"run_number": 100014, "start_time": BEGAN})
    testbed = FakeTestbed(tmp_path)
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, steps=real_steps(testbed, monitor, register_missing_stf=True))
    testbed.broker_is(engine, up=True)
    name = testbed.receive(outbox)
    settle(engine)
    assert rows(server, "stf-files") == []  # the data agent may still register it
    for _ in range(200):
        testbed.time.pass_(minutes=10)
        settle(engine)
    assert named(outbox, name).state == "completed"
    assert [row["stf_filename"] for row in rows(server, "stf-files")] == [name]
    assert rows(server, "stf-files")[0]["metadata"]["registered_by"] == "fastmon-agent-test-1"
    outbox.close()


def test_without_the_setting_an_unregistered_stf_fails(
    embedded: tuple[MonitorThread, MonitorClient], tmp_path: Path
) -> None:
    server, monitor = embedded
    testbed = FakeTestbed(tmp_path)
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, steps=real_steps(testbed, monitor))
    name = testbed.receive(outbox)
    for _ in range(200):
        testbed.time.pass_(minutes=10)
        settle(engine)
    assert named(outbox, name).state == "failed"
    assert rows(server, "stf-files") == []
    outbox.close()


def test_a_found_file_is_registered_at_once(embedded: tuple[MonitorThread, MonitorClient], tmp_path: Path) -> None:
    server, monitor = embedded
    testbed = FakeTestbed(tmp_path)
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, steps=real_steps(testbed, monitor))
    testbed.broker_is(engine, up=True)
    testbed.receive(outbox, origin=Origin.FILE, size_bytes=2000)
    settle(engine)
    assert [row["file_size_bytes"] for row in rows(server, "stf-files")] == [2000]
    assert len(rows(server, "fastmon-files")) == 2
    outbox.close()


def test_we_register_a_missing_stf_before_its_budget_ends() -> None:
    assert ORPHANED_AFTER_S < BUDGET_S
