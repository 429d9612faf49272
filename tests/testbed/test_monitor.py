"""The embedded monitor over real sockets: counts, traps of the real monitor, and the stream."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from fastmon_daemon.testbed.monitor.responses import as_json, listed
from tests.processes import wait_until
from tests.testbed.monitor_calls import (
    DEADLINE_S,
    LONG_S,
    MOMENT,
    TOKEN,
    Stream,
    add_stf,
    call,
    post_tf,
)


@pytest.fixture
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def test_requests_rows_and_announcements_are_counted(monitor):
    stf = add_stf(monitor)
    for _ in range(2):
        post_tf(monitor)
    call(monitor, "POST", "/api/systemagents/heartbeat/", {"instance_name": "a"})
    call(monitor, "GET", f"/api/fastmon-files/?stf_filename={stf}")
    call(monitor, "PATCH", "/api/runs/1/", {"end_time": MOMENT})
    for event_id in ("e1", "e1", "e2"):
        monitor.deliver(json.dumps({"msg_type": "tf_file_registered", "event_id": event_id, "tf_file_id": "t"}))
    for tf_file_id in ("t1", "t1"):
        monitor.deliver(json.dumps({"msg_type": "tf_file_registered", "tf_file_id": tf_file_id}))
    assert call(monitor, "GET", "/_testbed/counts").json == {
        "runs": 1, "stf_files": 1, "fastmon_files": 1, "duplicate_posts": 1, "announcements": 5,
        "distinct_announcements": 3, "stages": 0, "heartbeats": 1, "logs": 0, "in_flight": 0,
        "requests": {
            "GET /api/fastmon-files/": 1, "PATCH /api/runs/{id}/": 1, "POST /api/fastmon-files/": 2,
            "POST /api/runs/": 1, "POST /api/stf-files/": 1, "POST /api/systemagents/heartbeat/": 1,
        },
    }  # fmt: skip


def test_connections_are_kept_alive_but_not_after_an_error(monitor):
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        ours = set()
        for path in ("/api/runs/", "/api/runs/", "/api/stf-files/?run_number=abc"):
            connection.request("GET", path)
            ours.add(connection.sock.getsockname())
            response = connection.getresponse()
            response.read()
        assert len(ours) == 1
        assert response.getheader("Connection") == "close"


def test_the_next_heartbeat_marks_agents_as_exited_that_were_silent_for_three_minutes():
    now = [datetime(2026, 11, 21, 20, 0, tzinfo=UTC)]
    with MonitorThread(TOKEN, MonitorOptions(clock=Clock(now=lambda: now[0]))) as monitor:
        for name, passed in (("old", 0), ("young", 170), ("new", 20)):
            now[0] += timedelta(seconds=passed)
            call(monitor, "POST", "/api/systemagents/heartbeat/", {"instance_name": name, "agent_type": "fastmon"})
        states = {row["instance_name"]: row["status"] for row in call(monitor, "GET", "/api/systemagents/").json}
    assert states == {"old": "EXITED", "young": "OK", "new": "OK"}


def test_a_message_with_agent_name_and_status_creates_an_agent(monitor):
    monitor.deliver(json.dumps({"msg_type": "tf_file_registered", "agent_name": "a", "status": "registered"}))
    (row,) = call(monitor, "GET", "/api/systemagents/").json
    assert (row["instance_name"], row["agent_type"], row["status"]) == ("a", "Unknown", "registered")


def test_the_messages_endpoint_can_be_enabled():
    published: list[Any] = []
    with MonitorThread(TOKEN, MonitorOptions(publish=published.append)) as monitor:
        assert call(monitor, "POST", "/api/messages/", {"msg_type": "tf_file_registered"}).status == 201
        assert call(monitor, "POST", "/api/messages/", []).status == 400
        assert call(monitor, "GET", "/api/messages/").status == 405
    assert published == [{"msg_type": "tf_file_registered"}]


def test_a_deeply_nested_body_gets_a_500(monitor):
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/api/runs/", "[" * 100_000, headers)
        assert connection.getresponse().status == 500


def test_deleting_a_run_deletes_its_files(monitor):
    add_stf(monitor)
    post_tf(monitor)
    assert call(monitor, "DELETE", "/api/runs/1/").status == 204
    counts = monitor.counts()
    assert (counts["runs"], counts["stf_files"], counts["fastmon_files"]) == (0, 0, 0)
    add_stf(monitor)
    assert post_tf(monitor).status == 201


def test_filters_on_a_large_table(monitor):
    def fill() -> None:
        store = monitor.server.store
        runs, stfs, tfs = (store.tables[path].resource for path in ("runs", "stf-files", "fastmon-files"))
        for number in (1, 2):
            run = store.create(runs, {"run_number": number, "start_time": MOMENT})["run_id"]
            for sequence in range(100):
                stf = f"swf.{number}.{sequence:06d}.stf"
                store.create(stfs, {"run": run, "stf_filename": stf})
                for tf in range(7):
                    store.create(tfs, {"stf_file": stf, "tf_filename": f"{stf}_{tf}"})

    monitor.call(fill)
    assert len(call(monitor, "GET", "/api/stf-files/?run_number=2").json) == 100
    assert len(call(monitor, "GET", "/api/fastmon-files/?stf_filename=swf.2.000007.stf").json) == 7
    (row,) = call(monitor, "GET", "/api/fastmon-files/?tf_filename=swf.1.000099.stf_6").json
    assert row["stf_file"] == "swf.1.000099.stf"


ROWS = [{"n": n, "text": "\N{GREEK SMALL LETTER MU}"} for n in range(1001)]


@pytest.mark.parametrize("content", [[], ROWS, {"count": 0, "results": []}, {"count": 2000, "results": ROWS}])
def test_other_requests_are_served_while_a_long_list_is_written(content):
    async def turns_of_others() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        response = await listed(content)
        task.cancel()
        assert response == as_json(200, content)
        return turns

    rows = content["results"] if isinstance(content, dict) else content
    assert asyncio.run(turns_of_others()) >= len(rows) // 200


def test_a_deaf_stream_sends_heartbeats_and_relays_again_afterwards():
    with MonitorThread(TOKEN, MonitorOptions(heartbeat_s=0.05)) as monitor, closing(Stream(monitor)) as stream:
        monitor.faults(sse_deaf_s=LONG_S)
        monitor.deliver(json.dumps({"msg_type": "stf_ready", "label": "not relayed"}))
        assert [stream.event()[0] for _ in range(3)] == ["heartbeat"] * 3
        monitor.faults()
        monitor.deliver(json.dumps({"msg_type": "stf_ready", "label": "relayed"}))
        message = next(data for name, data in iter(stream.event, None) if name != "heartbeat")
        assert message["label"] == "relayed"


def test_a_client_that_does_not_read_gets_the_oldest_events_and_loses_the_newest(monitor):
    def flood() -> None:
        for number in range(500):
            monitor.server.deliver(json.dumps({"msg_type": "stf_ready", "number": number, "blob": "x" * 100_000}))

    with closing(Stream(monitor)) as stream:
        monitor.call(flood)
        monitor.deliver(json.dumps({"msg_type": "stf_ready", "number": "lost with the newest"}))
        numbers = [stream.event()[1]["number"] for _ in range(100)]
        assert numbers == list(range(100))
        wait_until(lambda: _relays_again(monitor, stream))


def _relays_again(monitor: MonitorThread, stream: Stream) -> bool:
    monitor.deliver(json.dumps({"msg_type": "stf_ready", "number": "after"}))
    return bool(stream.event()[1]["number"] == "after")


def test_a_disconnected_client_is_removed(monitor):
    with closing(Stream(monitor)):
        assert monitor.call(lambda: monitor.server.broadcaster.clients) == 1
    wait_until(lambda: monitor.call(lambda: monitor.server.broadcaster.clients) == 0)


def test_the_status_of_the_stream_always_reports_no_clients(monitor):
    with closing(Stream(monitor)):
        status = call(monitor, "GET", "/api/messages/stream/status/")
    assert status.text == '{"connected_clients": 0, "client_ids": [], "client_filters": {}}'
