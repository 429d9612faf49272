"""The embedded monitor as a server: its faults, its outages, its counts and its stream, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastmon_daemon.clock import Clock
from fastmon_daemon.testbed.monitor import BadFaults, MonitorOptions, MonitorServer, MonitorThread

TOKEN = "0123456789abcdef0123456789abcdef01234567"
DEADLINE_S = 20.0
MOMENT = "2026-11-21T12:00:00"
LONG_S = 600.0


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def call(monitor: MonitorThread | MonitorServer, method: str, path: str, body: Any = None) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())


def add_stf(monitor: MonitorThread, number: int = 1) -> str:
    run = call(monitor, "POST", "/api/runs/", {"run_number": number, "start_time": MOMENT}).json
    name = f"swf.{number}.000001.stf"
    assert call(monitor, "POST", "/api/stf-files/", {"run": run["run_id"], "stf_filename": name}).status == 201
    return name


def post_tf(monitor: MonitorThread, name: str = "a.tf", stf: str = "swf.1.000001.stf") -> Answer:
    return call(monitor, "POST", "/api/fastmon-files/", {"stf_file": stf, "tf_filename": name})


def eventually(condition: Callable[[], bool]) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        pause.wait(0.01)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


def is_cut(connection: socket.socket) -> bool:
    connection.settimeout(DEADLINE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def test_counts_tell_what_was_seen(monitor):
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
        "distinct_announcements": 3, "stages": 0, "heartbeats": 1, "logs": 0,
        "requests": {
            "GET /api/fastmon-files/": 1, "PATCH /api/runs/{id}/": 1, "POST /api/fastmon-files/": 2,
            "POST /api/runs/": 1, "POST /api/stf-files/": 1, "POST /api/systemagents/heartbeat/": 1,
        },
    }  # fmt: skip


def test_faults_set_only_what_they_name_and_an_empty_object_clears_all(monitor):
    assert call(monitor, "POST", "/_testbed/faults", {"latency_ms": 1}).json == {"latency_ms": 1}
    both = {"latency_ms": 1, "error_status": 503}
    assert call(monitor, "POST", "/_testbed/faults", {"error_status": 503}).json == both
    assert call(monitor, "GET", "/_testbed/faults").json == both
    assert call(monitor, "POST", "/_testbed/faults", {}).json == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nosuch", 1), ("latency_ms", "1"), ("latency_ms", -1), ("error_rate", 1.5), ("error_rate", True),
        ("error_status", 200), ("revoked", 1), ("endpoints", "/api/"), ("down_s", None),
    ],
)  # fmt: skip
def test_an_unknown_fault_or_a_wrong_value_is_named_and_nothing_is_set(monitor, name, value):
    refused = call(monitor, "POST", "/_testbed/faults", {"latency_ms": 5, name: value})
    assert refused.status == 400
    assert list(refused.json["faults"]) == [name]
    assert call(monitor, "GET", "/_testbed/faults").json == {}
    with pytest.raises(BadFaults, match=name):
        monitor.faults(**{name: value})


def test_injected_errors_are_pages_and_commit_nothing(monitor):
    add_stf(monitor)
    monitor.faults(error_rate=1, error_status=502)
    broken = post_tf(monitor)
    assert (broken.status, broken.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    monitor.faults()
    assert monitor.counts()["fastmon_files"] == 0
    assert post_tf(monitor).status == 201


def test_a_dropped_answer_was_committed(monitor):
    add_stf(monitor)
    monitor.faults(drop_rate=1)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        post_tf(monitor)
    monitor.faults(drop_rate=0)
    assert post_tf(monitor).json == {"tf_filename": ["fast mon file with this tf filename already exists."]}


def test_an_error_after_the_commit_was_committed(monitor):
    add_stf(monitor)
    monitor.faults(error_after_commit_rate=1)
    assert post_tf(monitor).status == 500
    assert monitor.counts()["fastmon_files"] == 1


def test_a_page_with_status_200_a_login_redirect_and_a_revoked_token(monitor):
    add_stf(monitor)
    monitor.faults(html_200_rate=1)
    page = post_tf(monitor)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    monitor.faults(html_200_rate=0, redirect=True)
    moved = post_tf(monitor)
    assert (moved.status, moved.headers["Location"]) == (302, "/accounts/login/?next=/api/fastmon-files/")
    monitor.faults(redirect=False, revoked=True)
    assert (post_tf(monitor).status, post_tf(monitor).json) == (403, {"detail": "Invalid token."})
    assert call(monitor, "POST", "/api/state/next-agent-id/").status == 401
    monitor.faults(revoked=False)
    assert post_tf(monitor).status == 201


def test_faults_may_be_limited_to_some_endpoints_and_never_touch_the_testbed_itself(monitor):
    monitor.faults(error_rate=1, revoked=True, endpoints=["/api/fastmon-files/"])
    assert call(monitor, "POST", "/api/runs/", {"run_number": 1, "start_time": MOMENT}).status == 201
    assert call(monitor, "GET", "/api/fastmon-files/").status == 500
    monitor.faults(endpoints=[])
    assert call(monitor, "GET", "/api/runs/").status == 500
    assert call(monitor, "GET", "/_testbed/counts").status == 200


def test_latency_is_waited_for_and_a_dripping_answer_is_whole(monitor):
    monitor.faults(latency_ms=50, drip_ms=1)
    before = time.monotonic()
    answer = call(monitor, "POST", "/api/runs/", {"run_number": 1, "start_time": MOMENT})
    assert time.monotonic() - before >= 0.05
    assert answer.json["run_number"] == 1


def test_a_hanging_monitor_takes_requests_and_answers_none_until_it_is_over(monitor):
    monitor.faults(hang_s=LONG_S)
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=0.2)) as connection:
        connection.request("GET", "/api/runs/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
    monitor.faults(hang_s=0)
    assert call(monitor, "GET", "/api/runs/").status == 200


def test_a_monitor_that_is_down_refuses_connections_cuts_streams_and_remembers_everything(monitor):
    add_stf(monitor)
    port = monitor.port
    with closing(Stream(monitor)) as stream, socket.create_connection(("127.0.0.1", port)) as idle:
        assert call(monitor, "POST", "/_testbed/faults", {"down_s": LONG_S}).json["down_s"] > 0
        eventually(lambda: not accepts(port))
        assert stream.ends()
        assert is_cut(idle)
    monitor.faults()
    eventually(lambda: accepts(port))
    assert post_tf(monitor).status == 201


def test_an_outage_ends_by_itself_on_the_same_port(monitor):
    port = monitor.port
    for _ in range(3):
        assert call(monitor, "POST", "/_testbed/faults", {"down_s": 0.05}).status == 200
        eventually(lambda: not monitor.server.faults.left("down_s") and accepts(port))
    assert call(monitor, "GET", "/api/runs/").status == 200


def test_an_outage_cuts_off_a_request_that_waits(monitor):
    monitor.faults(latency_ms=LONG_S * 1000)
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        connection.request("GET", "/api/runs/")
        eventually(lambda: bool(monitor.counts()["requests"]))
        monitor.faults(down_s=LONG_S)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            connection.getresponse()


def test_a_stopped_monitor_starts_again_where_it_was(monitor):
    add_stf(monitor)
    port = monitor.port
    monitor.stop()
    assert not accepts(port)
    assert monitor.start() == port
    assert post_tf(monitor).status == 201


def test_the_faults_of_the_broker_are_handed_on(monitor):
    told: list[tuple[str, float | bool]] = []
    with MonitorThread(TOKEN, on_broker=lambda name, value: told.append((name, value))) as another:
        call(another, "POST", "/_testbed/faults", {"broker_down_s": 5, "no_receipts": True, "latency_ms": 1})
        assert told == [("broker_down_s", 5), ("no_receipts", True)]
        call(another, "POST", "/_testbed/faults", {})
        assert told[2:] == [("broker_down_s", 0), ("broker_silent_s", 0), ("no_receipts", False)]


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


def test_the_server_runs_in_whatever_event_loop_there_is():
    async def world() -> int:
        server = MonitorServer(TOKEN)
        port = await server.start()
        status = (await asyncio.to_thread(call, server, "GET", "/api/runs/")).status
        server.set_faults({"down_s": LONG_S})
        assert not await asyncio.to_thread(accepts, port)
        server.set_faults({})
        await server.stop()
        assert await server.start() == port
        await server.stop()
        return status

    assert asyncio.run(world()) == 200


def test_agents_that_were_silent_for_three_minutes_are_marked_as_gone_by_the_next_heartbeat():
    now = [datetime(2026, 11, 21, 20, 0, tzinfo=UTC)]
    with MonitorThread(TOKEN, MonitorOptions(clock=Clock(now=lambda: now[0]))) as monitor:
        for name, passed in (("old", 0), ("young", 170), ("new", 20)):
            now[0] += timedelta(seconds=passed)
            call(monitor, "POST", "/api/systemagents/heartbeat/", {"instance_name": name, "agent_type": "fastmon"})
        states = {row["instance_name"]: row["status"] for row in call(monitor, "GET", "/api/systemagents/").json}
    assert states == {"old": "EXITED", "young": "OK", "new": "OK"}


def test_a_message_with_agent_name_and_status_makes_an_agent(monitor):
    monitor.deliver(json.dumps({"msg_type": "tf_file_registered", "agent_name": "a", "status": "registered"}))
    (row,) = call(monitor, "GET", "/api/systemagents/").json
    assert (row["instance_name"], row["agent_type"], row["status"]) == ("a", "Unknown", "registered")


def test_a_monitor_may_have_the_messages_endpoint():
    published: list[Any] = []
    with MonitorThread(TOKEN, MonitorOptions(publish=published.append)) as monitor:
        assert call(monitor, "POST", "/api/messages/", {"msg_type": "tf_file_registered"}).status == 201
        assert call(monitor, "POST", "/api/messages/", []).status == 400
        assert call(monitor, "GET", "/api/messages/").status == 405
    assert published == [{"msg_type": "tf_file_registered"}]


def test_a_deeply_nested_body_is_an_error_of_the_monitor(monitor):
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/api/runs/", "[" * 100_000, headers)
        assert connection.getresponse().status == 500


def test_what_belongs_to_a_deleted_run_goes_with_it(monitor):
    add_stf(monitor)
    post_tf(monitor)
    assert call(monitor, "DELETE", "/api/runs/1/").status == 204
    counts = monitor.counts()
    assert (counts["runs"], counts["stf_files"], counts["fastmon_files"]) == (0, 0, 0)
    add_stf(monitor)
    assert post_tf(monitor).status == 201


def test_look_ups_in_a_large_table_find_what_they_name(monitor):
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


class Stream:
    """A reader of the event stream that sees every byte."""

    def __init__(self, monitor: MonitorThread, query: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)
        self.connection.request("GET", f"/api/messages/stream/{query}", headers={"Authorization": f"Token {TOKEN}"})
        self.response = self.connection.getresponse()
        self.connected = self.event()

    def event(self) -> tuple[str, Any]:
        name, data, blank = (self.response.readline().decode() for _ in range(3))
        assert blank == "\n"
        return name.removeprefix("event: ").rstrip("\n"), json.loads(data.removeprefix("data: "))

    def ends(self) -> bool:
        """Whether the monitor cuts the stream off."""
        try:
            return not self.response.readline()
        except (ConnectionError, http.client.IncompleteRead):
            return True

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def test_the_stream_beats_while_it_is_deaf_and_hears_again_afterwards():
    with MonitorThread(TOKEN, MonitorOptions(heartbeat_s=0.05)) as monitor, closing(Stream(monitor)) as stream:
        monitor.faults(sse_deaf_s=LONG_S)
        monitor.deliver(json.dumps({"msg_type": "stf_ready", "label": "unheard"}))
        assert [stream.event()[0] for _ in range(3)] == ["heartbeat"] * 3
        monitor.faults()
        monitor.deliver(json.dumps({"msg_type": "stf_ready", "label": "heard"}))
        heard = next(data for name, data in iter(stream.event, None) if name != "heartbeat")
        assert heard["label"] == "heard"


def test_a_reader_that_does_not_read_keeps_the_oldest_events_and_loses_the_newest(monitor):
    def flood() -> None:
        for number in range(500):
            monitor.server.deliver(json.dumps({"msg_type": "stf_ready", "number": number, "blob": "x" * 100_000}))

    with closing(Stream(monitor)) as stream:
        monitor.call(flood)
        monitor.deliver(json.dumps({"msg_type": "stf_ready", "number": "lost with the newest"}))
        numbers = [stream.event()[1]["number"] for _ in range(100)]
        assert numbers == list(range(100))
        eventually(lambda: _delivers_again(monitor, stream))


def _delivers_again(monitor: MonitorThread, stream: Stream) -> bool:
    monitor.deliver(json.dumps({"msg_type": "stf_ready", "number": "after"}))
    return bool(stream.event()[1]["number"] == "after")


def test_a_reader_that_leaves_is_forgotten(monitor):
    with closing(Stream(monitor)):
        assert monitor.call(lambda: monitor.server.hub.clients) == 1
    eventually(lambda: monitor.call(lambda: monitor.server.hub.clients) == 0)


def test_the_status_of_the_stream_always_says_nobody(monitor):
    with closing(Stream(monitor)):
        status = call(monitor, "GET", "/api/messages/stream/status/")
    assert status.text == '{"connected_clients": 0, "client_ids": [], "client_filters": {}}'
