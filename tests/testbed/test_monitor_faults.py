"""The embedded monitor's faults and outages, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from fastmon_daemon.testbed.monitor import BadFaults, MonitorServer, MonitorThread
from fastmon_daemon.testbed.monitor.faults import COST_SPREAD, CROWD, CROWDED_COST, NAMES, PARALLEL_PART, Faults
from tests.processes import wait_until
from tests.testbed.monitor_calls import (
    DEADLINE_S,
    LONG_S,
    MOMENT,
    TOKEN,
    Stream,
    accepts,
    add_stf,
    call,
    is_cut,
    post_tf,
)


@pytest.fixture
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def test_a_post_sets_only_the_named_faults_and_an_empty_object_clears_all(monitor):
    assert call(monitor, "POST", "/_testbed/faults", {"latency_ms": 1}).json == {"latency_ms": 1}
    both = {"latency_ms": 1, "error_status": 503}
    assert call(monitor, "POST", "/_testbed/faults", {"error_status": 503}).json == both
    assert call(monitor, "GET", "/_testbed/faults").json == both
    assert call(monitor, "POST", "/_testbed/faults", {}).json == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nosuch", 1), ("latency_ms", "1"), ("latency_ms", -1), ("capacity_hz", -1),
        ("capacity_hz", "1"), ("error_rate", 1.5), ("error_rate", True),
        ("error_status", 200), ("revoked", 1), ("endpoints", "/api/"), ("down_s", None),
    ],
)  # fmt: skip
def test_an_unknown_fault_or_an_invalid_value_is_named_and_nothing_is_set(monitor, name, value):
    rejected = call(monitor, "POST", "/_testbed/faults", {"latency_ms": 5, name: value})
    assert rejected.status == 400
    assert list(rejected.json["faults"]) == [name]
    assert call(monitor, "GET", "/_testbed/faults").json == {}
    with pytest.raises(BadFaults, match=name):
        monitor.faults(**{name: value})


def test_an_injected_error_is_a_page_and_commits_nothing(monitor):
    add_stf(monitor)
    monitor.faults(error_rate=1, error_status=502)
    broken = post_tf(monitor)
    assert (broken.status, broken.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    monitor.faults()
    assert monitor.counts()["fastmon_files"] == 0
    assert post_tf(monitor).status == 201


def test_a_dropped_response_is_committed(monitor):
    add_stf(monitor)
    monitor.faults(drop_rate=1)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        post_tf(monitor)
    monitor.faults(drop_rate=0)
    assert post_tf(monitor).json == {"tf_filename": ["fast mon file with this tf filename already exists."]}


def test_an_error_after_the_commit_is_committed(monitor):
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


def test_faults_can_be_limited_to_endpoints_and_never_affect_the_testbed_calls(monitor):
    monitor.faults(error_rate=1, revoked=True, endpoints=["/api/fastmon-files/"])
    assert call(monitor, "POST", "/api/runs/", {"run_number": 1, "start_time": MOMENT}).status == 201
    assert call(monitor, "GET", "/api/fastmon-files/").status == 500
    monitor.faults(endpoints=[])
    assert call(monitor, "GET", "/api/runs/").status == 500
    assert call(monitor, "GET", "/_testbed/counts").status == 200


def test_latency_delays_a_response_and_a_dripping_one_is_complete(monitor):
    monitor.faults(latency_ms=50, drip_ms=1)
    before = time.monotonic()
    response = call(monitor, "POST", "/api/runs/", {"run_number": 1, "start_time": MOMENT})
    assert time.monotonic() - before >= 0.05
    assert response.json["run_number"] == 1


def test_a_monitor_of_limited_capacity_serves_one_call_after_the_other(monitor):
    hz, calls = 40, 10
    monitor.faults(capacity_hz=hz)

    def timed(_number: int) -> float:
        assert call(monitor, "GET", "/api/runs/").status == 200
        return time.monotonic()

    began = time.monotonic()
    with ThreadPoolExecutor(calls) as pool:
        ends = [end - began for end in pool.map(timed, range(calls))]
    assert min(ends) >= (PARALLEL_PART + 1 - COST_SPREAD) / hz
    assert max(ends) >= (PARALLEL_PART + calls * (1 - COST_SPREAD)) / hz
    assert monitor.faults(capacity_hz=0) == {}


def test_the_time_of_a_call_grows_with_the_calls_in_flight_as_at_the_real_monitor():
    now, hz, calls = 0.0, 100, 2000
    faults = Faults(lambda: now, Random(1))
    assert faults.take_turn(0) == 0
    faults.set({"capacity_hz": hz})
    alone = []
    for _ in range(calls):
        alone.append(faults.take_turn(0))
        now += alone[-1]
    assert sum(alone) / calls == pytest.approx(0.018, rel=0.02)

    def of(connections: int) -> float:
        """Mean time of a call while *connections* of them are always in flight."""
        nonlocal now
        faults.set({"capacity_hz": hz})
        ends, times = [now] * connections, []
        for _ in range(calls):
            now = min(ends)
            times.append(faults.take_turn(connections - 1))
            ends[ends.index(now)] = now + times[-1]
        return sum(times) / calls

    assert of(4) == pytest.approx(0.040, rel=0.05)
    assert of(CROWD) == pytest.approx(0.080, rel=0.05)
    assert of(2 * CROWD) == pytest.approx(0.160 * CROWDED_COST, rel=0.05)
    faults.set({})
    assert faults.take_turn(0) == 0


def test_a_change_of_the_capacity_does_not_wait_for_the_queue_before_it():
    faults = Faults(lambda: 0.0, Random(1))
    faults.set({"capacity_hz": 0.1})
    assert [faults.take_turn(n) for n in range(3)][-1] > 20
    faults.set({"capacity_hz": 100})
    assert faults.take_turn(3) < 0.1


def test_an_outage_cuts_calls_that_wait_for_their_turn(monitor):
    monitor.faults(capacity_hz=1 / LONG_S)
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        connection.request("GET", "/api/runs/")
        wait_until(lambda: monitor.counts()["in_flight"] == 1)
        monitor.faults(down_s=LONG_S)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            connection.getresponse()
    wait_until(lambda: monitor.counts()["in_flight"] == 0)


def test_each_fault_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "local-testbed.md").read_text(encoding="utf-8")
    assert sorted(line.split("`")[1] for line in text.splitlines() if line.startswith("| `")) == sorted(NAMES)


def test_streams_are_not_counted_as_calls_in_flight(monitor):
    with closing(Stream(monitor)):
        assert monitor.counts()["in_flight"] == 0


def test_a_hanging_monitor_accepts_requests_and_responses_none(monitor):
    monitor.faults(hang_s=LONG_S)
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=0.2)) as connection:
        connection.request("GET", "/api/runs/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
    monitor.faults(hang_s=0)
    assert call(monitor, "GET", "/api/runs/").status == 200


def test_a_monitor_that_is_down_rejects_connections_cuts_streams_and_keeps_its_data(monitor):
    add_stf(monitor)
    port = monitor.port
    with closing(Stream(monitor)) as stream, socket.create_connection(("127.0.0.1", port)) as idle:
        assert call(monitor, "POST", "/_testbed/faults", {"down_s": LONG_S}).json["down_s"] > 0
        wait_until(lambda: not accepts(port))
        assert stream.ends()
        assert is_cut(idle)
    monitor.faults()
    wait_until(lambda: accepts(port))
    assert post_tf(monitor).status == 201


def test_an_outage_ends_by_itself_on_the_same_port(monitor):
    port = monitor.port
    for _ in range(3):
        assert call(monitor, "POST", "/_testbed/faults", {"down_s": 0.05}).status == 200
        wait_until(lambda: not monitor.server.faults.left("down_s") and accepts(port))
    assert call(monitor, "GET", "/api/runs/").status == 200


def test_an_outage_cuts_a_delayed_request(monitor):
    monitor.faults(latency_ms=LONG_S * 1000)
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        connection.request("GET", "/api/runs/")
        wait_until(lambda: bool(monitor.counts()["requests"]))
        monitor.faults(down_s=LONG_S)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            connection.getresponse()


def test_a_stopped_monitor_starts_again_with_its_port_and_data(monitor):
    add_stf(monitor)
    port = monitor.port
    monitor.stop()
    assert not accepts(port)
    assert monitor.start() == port
    assert post_tf(monitor).status == 201


def test_broker_faults_go_to_the_callback(monitor):
    passed: list[tuple[str, float | bool]] = []
    with MonitorThread(TOKEN, on_broker_fault=lambda name, value: passed.append((name, value))) as another:
        call(another, "POST", "/_testbed/faults", {"broker_down_s": 5, "no_receipts": True, "latency_ms": 1})
        assert passed == [("broker_down_s", 5), ("no_receipts", True)]
        call(another, "POST", "/_testbed/faults", {})
        assert passed[2:] == [("broker_down_s", 0), ("broker_silent_s", 0), ("no_receipts", False)]


def test_the_server_runs_in_any_event_loop():
    async def serve() -> int:
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

    assert asyncio.run(serve()) == 200


def test_faults_are_parsed_as_json_whatever_the_content_type(monitor):
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl sends it unless passed otherwise
        connection.request("POST", "/_testbed/faults", '{"latency_ms": 7}', form)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["latency_ms"]) == (200, 7)
