"""The monitor's tables over REST: rows, and errors of each kind of response."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from tests.client.scripted_server import ScriptedServer, response, status_response


@contextmanager
def tables_of(server: ScriptedServer) -> Iterator[Tables]:
    tables = Tables(MonitorSession(url=server.url, token=lambda: "5ecre7"))
    try:
        yield tables
    finally:
        tables.close()


def test_table_is_a_list_or_a_single_page() -> None:
    rows = [{"run_number": 7}]
    with ScriptedServer(response(rows), response({"count": 1, "results": rows})) as server, tables_of(server) as tables:
        assert [tables.runs(), tables.runs()] == [rows, rows]


def test_stfs_have_their_time_of_registration() -> None:
    rows = [{"stf_filename": "a.stf", "created_at": "2026-11-26T13:00:00+01:00"}, {"stf_filename": "b.stf"}]
    with ScriptedServer(response(rows)) as server, tables_of(server) as tables:
        assert tables.stfs(7) == [
            ("a.stf", datetime(2026, 11, 26, 12, tzinfo=UTC)), ("b.stf", datetime(1970, 1, 1, tzinfo=UTC)),
        ]  # fmt: skip
    assert server.requests[0].startswith("GET /api/stf-files/?run_number=7&limit=")


def test_tf_files_of_other_stfs_are_ignored() -> None:
    rows = [{"stf_file": "a.stf", "tf_filename": "1.tf"}, {"stf_file": "b.stf", "tf_filename": "2.tf"}]
    with ScriptedServer(response(rows)) as server, tables_of(server) as tables:
        assert tables.tf_files("a.stf") == rows[:1]
        assert tables.tf_files("") == []  # without a request: an empty filter would match all
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("unusable", "message"),
    [
        (
            response(b"<html>Log in</html>", "text/html"),
            r"response to /api/runs/ is not JSON \(login page or proxy\?\): '<html>Log in</html>'",
        ),
        (response({"detail": "no"}), "response to /api/runs/ is not a list of rows"),
        (response([1]), "response to /api/runs/ is not a list of rows"),
        (response(b"[" * 100_000), "response to /api/runs/ is nested too deeply"),
        (status_response("500 Oops"), "monitor answered 500 to /api/runs/"),
        (status_response("302 Found", "Location: /login"), "monitor answered 302 to /api/runs/"),
        ([], "no response from the monitor to /api/runs/: "),
    ],
    ids=["login page", "no table", "no rows", "nested", "error", "redirect", "cut"],
)
def test_unusable_response_is_temporary(unusable: list[bytes], message: str) -> None:
    with ScriptedServer(response([]), unusable, response([])) as server, tables_of(server) as tables:
        assert tables.runs() == []
        with pytest.raises(MonitorUnavailable, match=message):
            tables.runs()
        assert tables.runs() == []


@pytest.mark.parametrize(
    ("status", "message", "by_token"),
    [("401 Unauthorized", "SWF_API_TOKEN", True), ("403 Forbidden", "SWF_API_TOKEN", True),
     ("404 Not Found", "SWF_MONITOR_URL", False)],
)  # fmt: skip
def test_error_for_the_operator_names_the_setting(status: str, message: str, by_token: bool) -> None:
    with (
        ScriptedServer(status_response(status)) as server,
        tables_of(server) as tables,
        pytest.raises(AccessDenied, match=message) as denied,
    ):
        tables.runs()
    assert denied.value.by_token is by_token
