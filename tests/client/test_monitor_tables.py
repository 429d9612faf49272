"""The monitor's tables over REST: what is read, and what each kind of answer means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from tests.client.scripted import Scripted, says


def answer(body: Any, kind: str = "application/json") -> list[bytes]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return [head.encode(), text]


@contextmanager
def tables_of(server: Scripted) -> Iterator[Tables]:
    tables = Tables(MonitorSession(url=server.url, token=lambda: "5ecre7"))
    try:
        yield tables
    finally:
        tables.close()


def test_a_table_is_a_list_or_a_page_with_all_of_it() -> None:
    rows = [{"run_number": 7}]
    with Scripted(answer(rows), answer({"count": 1, "results": rows})) as server, tables_of(server) as tables:
        assert [tables.runs(), tables.runs()] == [rows, rows]


def test_stfs_come_with_the_time_of_their_registration() -> None:
    rows = [{"stf_filename": "a.stf", "created_at": "2026-11-26T13:00:00+01:00"}, {"stf_filename": "b.stf"}]
    with Scripted(answer(rows)) as server, tables_of(server) as tables:
        assert tables.stfs(7) == [
            ("a.stf", datetime(2026, 11, 26, 12, tzinfo=UTC)), ("b.stf", datetime(1970, 1, 1, tzinfo=UTC)),
        ]  # fmt: skip
    assert server.requests[0].startswith("GET /api/stf-files/?run_number=7&limit=")


def test_of_a_monitor_that_does_not_filter_only_the_tf_files_of_the_stf_are_taken() -> None:
    rows = [{"stf_file": "a.stf", "tf_filename": "1.tf"}, {"stf_file": "b.stf", "tf_filename": "2.tf"}]
    with Scripted(answer(rows)) as server, tables_of(server) as tables:
        assert tables.tf_files("a.stf") == rows[:1]
        assert tables.tf_files("") == []  # and is not asked: an empty filter is none
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("strange", "said"),
    [
        (answer(b"<html>Log in</html>", "text/html"), "the monitor does not answer /api/runs/"),
        (answer({"detail": "no"}), "the monitor's answer to /api/runs/ is no list"),
        (answer([1]), "the monitor's answer to /api/runs/ is no list"),
        (answer(b"[" * 100_000), "the monitor does not answer /api/runs/: maximum recursion"),
        (says("500 Oops"), "the monitor said 500 to /api/runs/"),
        (says("302 Found", "Location: /login"), "the monitor said 302 to /api/runs/"),
        ([], "the monitor does not answer /api/runs/"),
    ],
    ids=["login page", "no table", "no rows", "nested", "error", "redirect", "cut"],
)
def test_what_is_no_table_is_tried_again_later(strange: list[bytes], said: str) -> None:
    with Scripted(answer([]), strange, answer([])) as server, tables_of(server) as tables:
        assert tables.runs() == []
        with pytest.raises(MonitorUnavailable, match=said):
            tables.runs()
        assert tables.runs() == []


@pytest.mark.parametrize(
    ("status", "said", "by_token"),
    [("401 Unauthorized", "SWF_API_TOKEN", True), ("403 Forbidden", "SWF_API_TOKEN", True),
     ("404 Not Found", "SWF_MONITOR_URL", False)],
)  # fmt: skip
def test_what_a_person_must_mend_is_named(status: str, said: str, by_token: bool) -> None:
    with (
        Scripted(says(status)) as server,
        tables_of(server) as tables,
        pytest.raises(AccessDenied, match=said) as refused,
    ):
        tables.runs()
    assert refused.value.by_token is by_token
