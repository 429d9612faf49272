"""The dashboard server: access, security headers, events, shutdown."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from fastmon_client.dashboard.auth import is_loopback
from fastmon_client.dashboard.broadcaster import event, spans
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import dead, run, snapshot, strip
from tests.processes import DEADLINE_S, wait_until

TOKEN = "a-token-that-nobody-guesses"
PATHS = ("/", "/events", "/static/page.js", "/static/uplot/uPlot.esm.js")


@pytest.fixture(scope="module")
def open_one() -> Iterator[Served]:
    with served(snapshot) as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Served]:
    with served(snapshot, TOKEN) as running:
        yield running


def get(where: Served, path: str, **options: Any) -> requests.Response:
    found = requests.get(where.url + path, timeout=DEADLINE_S, allow_redirects=False, stream=True, **options)
    if path != "/events":
        found.content  # noqa: B018 (reads it)
    found.close()
    return found


def first_event(where: Served, **options: Any) -> dict[str, Any]:
    with requests.get(f"{where.url}/events", timeout=DEADLINE_S, stream=True, **options) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        line = next(line for line in answer.iter_lines() if line.startswith(b"data: "))
    found: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    return found


def test_page_gets_the_snapshot_immediately(open_one: Served) -> None:
    found = first_event(open_one)
    assert found["connection"]["state"] == "LIVE"
    assert found["runs"][0]["strip"][0] == [1, 11, "present"]
    assert found["incidents"][0]["title"] == "STFs are missing"


def test_events_repeat_without_changes(open_one: Served) -> None:
    with requests.get(f"{open_one.url}/events", timeout=DEADLINE_S, stream=True) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith(b"event: "))
        assert [next(lines) for _ in range(2)] == [b"event: snapshot"] * 2


@pytest.mark.parametrize("path", [*PATHS, "/login", "/static/style.css", "/nothing"])
def test_every_response_forbids_foreign_and_inline_code(open_one: Served, path: str) -> None:
    headers = get(open_one, path).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8010", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_unknown_host_header_is_rejected(open_one: Served, host: str) -> None:
    assert get(open_one, "/", headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:8010", "LOCALHOST"])
def test_loopback_host_header_is_accepted(open_one: Served, host: str) -> None:
    assert get(open_one, "/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_served_without_the_token(locked: Served, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"fastmon_dashboard_{locked.port}={TOKEN}"}):
        answer = get(locked, path, headers=headers)
        assert (answer.status_code, answer.headers.get("Location")) in ((401, None), (303, "login"))


@pytest.mark.parametrize("path", PATHS)
def test_bearer_token_allows_everything(locked: Served, path: str) -> None:
    assert get(locked, path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_form_sets_a_cookie_without_the_token(locked: Served) -> None:
    with requests.Session() as browser:
        answer = browser.post(f"{locked.url}/login", {"token": TOKEN}, timeout=DEADLINE_S, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "./")
        said = answer.headers["Set-Cookie"]
        assert TOKEN not in said
        assert "HttpOnly" in said
        assert "SameSite=strict" in said
        assert browser.get(locked.url, timeout=DEADLINE_S, allow_redirects=False).status_code == 200


@pytest.mark.parametrize("form", [{"token": "wrong"}, {}, {"token": "x" * 10_000}, {"other": TOKEN}])
def test_form_rejects_an_invalid_token(locked: Served, form: dict[str, str]) -> None:
    answer = requests.post(f"{locked.url}/login", form, timeout=DEADLINE_S, allow_redirects=False)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert "Invalid token" in answer.text


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.2", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_loopback_addresses_are_recognized(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_consecutive_cells_of_one_kind_are_one_span() -> None:
    cells = [*strip(6, _3="missing", _4="missing"), {"sequence": 9, "kind": "present"}]
    assert spans(cells) == [[1, 2, "present"], [3, 4, "missing"], [5, 6, "present"], [9, 9, "present"]]


def test_event_contains_the_newest_runs_and_the_strips_of_open_ones() -> None:
    states = ["complete", "running", "paused", "ended"]
    many = snapshot(runs=[run(str(100100 - n), state=states[n % 4]) for n in range(40)])
    found = json.loads(event(many, []).split(b"data: ")[1])
    assert (len(found["runs"]), found["runs_total"]) == (30, 40)
    assert [bool(row["strip"]) for row in found["runs"][:8]] == [False, True, True, False] * 2
    assert sum(bool(row["strip"]) for row in found["runs"]) == 4


def test_without_an_open_run_the_newest_has_its_strip() -> None:
    found = json.loads(event(snapshot(runs=[run(state="complete")] * 2), []).split(b"data: ")[1])
    assert found["runs"][0]["strip"]


def test_page_that_stopped_reading_does_not_delay_the_end() -> None:
    huge = {**snapshot(), "monitor": "x" * 16_000_000}
    with closing(socket.socket()) as asleep:
        asleep.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with served(lambda: huge) as dashboard:
            asleep.connect(("127.0.0.1", dashboard.port))
            asleep.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b"event:" not in received:  # the server keeps the unread rest
                received += asleep.recv(1024)


def samples(page: str) -> dict[str, float]:
    return {
        f"{sample.name}{list(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_metrics_show_stream_pages_and_alarms() -> None:
    shown = snapshot()
    shown["alarms"] = [{**shown["alarms"][0], "kind": "run_stale", "until": None}]
    with served(lambda: shown) as running:
        seen = samples(get(running, "/metrics").text)
        assert (seen["fastmon_dashboard_connection['LIVE']"], seen["fastmon_dashboard_connection['DEAD']"]) == (1, 0)
        assert seen["fastmon_dashboard_pages[]"] == 0
        assert seen["fastmon_dashboard_tf_files_total[]"] == shown["totals"]["tf_files"]
        assert seen["fastmon_dashboard_alarms['run_stale']"] == 1
        assert seen["process_resident_memory_bytes[]"] > 0
        with requests.get(f"{running.url}/events", timeout=DEADLINE_S, stream=True) as page:
            lines = page.iter_lines()  # kept: the connection ends with it
            next(lines)
            assert samples(get(running, "/metrics").text)["fastmon_dashboard_pages[]"] == 1
        wait_until(lambda: samples(get(running, "/metrics").text)["fastmon_dashboard_pages[]"] == 0, "it is closed")
        shown["connection"] = dead()["connection"]
        later = samples(get(running, "/metrics").text)
        assert later["fastmon_dashboard_connection['DEAD']"] == 1
        assert later.keys() == seen.keys(), "no series appears with its first event"


def test_a_probe_needs_no_token_but_metrics_do(locked: Served) -> None:
    assert (get(locked, "/livez").status_code, get(locked, "/livez").text) == (200, "alive\n")
    assert get(locked, "/metrics").status_code == 401
    assert get(locked, "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
