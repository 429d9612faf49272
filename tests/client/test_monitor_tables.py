"""The monitor's tables over REST: rows, and errors of each kind of response."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from fastmon_client import monitor_tables, row_stream
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.row_stream import NotRows, memory_of, rows_in, slim
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


@pytest.mark.parametrize(
    ("header", "expected"),
    [("Date: Thu, 26 Nov 2026 12:00:05 GMT", datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)),
     ("Date: Thu, 26 Nov 2026 12:00:05 -0000", datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)),
     ("Date: x", None), ("X: y", None)],
)  # fmt: skip
def test_agents_come_with_the_clock_of_the_monitor(header: str, expected: datetime | None) -> None:
    text = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n{header}\r\n\r\n[]"
    with ScriptedServer([text.encode()]) as server, tables_of(server) as tables:
        assert tables.agents() == ([], expected)
    assert server.requests[0].startswith("GET /api/systemagents/ HTTP/1.1\r\n")
    assert "Accept: application/json\r\n" in server.requests[0]


def test_the_monitor_is_asked_for_one_page_and_for_the_tf_files_of_one_stf() -> None:
    with ScriptedServer(response([]), response([])) as server, tables_of(server) as tables:
        assert (tables.stfs(7), tables.tf_files("a.stf")) == ([], [])
    assert [request.split(" ")[1] for request in server.requests] == [
        "/api/stf-files/?run_number=7&limit=10000000", "/api/fastmon-files/?stf_filename=a.stf",
    ]  # fmt: skip


@pytest.mark.parametrize(("left", "fits"), [(0, True), (-1, False)])
def test_a_list_of_stfs_takes_memory_up_to_its_limit(left: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"stf_filename": name} for name in ("a.stf", "bb.stf")]
    monkeypatch.setattr(monitor_tables, "MAX_LIST_BYTES", 5 + 6 + 2 * 150 + left)
    with ScriptedServer(response(rows)) as server, tables_of(server) as tables:
        if fits:
            assert [name for name, _ in tables.stfs(7)] == ["a.stf", "bb.stf"]
        else:
            with pytest.raises(MonitorUnavailable, match=r"^run 7 has more than 1 STFs: too many to compare$"):
                tables.stfs(7)


@pytest.mark.parametrize(("left", "fits"), [(0, True), (-1, False)])
def test_rows_take_memory_up_to_their_limit(left: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"stf_file": "a.stf"}, {"stf_file": "other.stf", "x": "y" * 100}, {"stf_file": "a.stf"}]
    limit = 2 * memory_of(rows[0]) + left
    monkeypatch.setattr(monitor_tables, "MAX_LIST_BYTES", limit)
    monkeypatch.setattr(monitor_tables, "MAX_TF_FILES_BYTES", limit)
    with ScriptedServer(response(rows), response(rows[:1] * 2)) as server, tables_of(server) as tables:
        if fits:
            assert (tables.tf_files("a.stf"), tables.runs()) == ([rows[0]] * 2, [rows[0]] * 2)
        else:
            with pytest.raises(MonitorUnavailable, match=r"^response to /api/fastmon-files/ is too long: more than 2 "):
                tables.tf_files("a.stf")
            with pytest.raises(MonitorUnavailable, match=r"^response to /api/runs/ is too long: more than 2 rows$"):
                tables.runs()


@pytest.mark.parametrize(("left", "fits"), [(0, True), (-1, False)])
def test_a_response_is_read_up_to_its_limit(left: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'[{"run_number": 7}]'
    monkeypatch.setattr(monitor_tables, "MAX_RESPONSE_BYTES", len(body) + left)
    with ScriptedServer(response(body)) as server, tables_of(server) as tables:
        if fits:
            assert tables.runs() == [{"run_number": 7}]
        else:
            with pytest.raises(MonitorUnavailable, match=rf"^response to /api/runs/ is longer than {len(body) - 1} b"):
                tables.runs()


# Rows


def test_a_row_takes_memory_for_each_field_and_text() -> None:
    assert [memory_of(row) for row in ({}, {"ab": 1}, {"ab": "xyz"}, {"c": {"d": None}})] == [
        300, 300 + 100 + 2 + 32, 300 + 100 + 2 + 3, 300 + 100 + 1 + 300 + 100 + 1 + 32,
    ]  # fmt: skip


def test_a_slim_row_has_a_hundred_fields_and_its_objects_are_one_level_deep() -> None:
    many = {f"{'k' * 200}{number}": number for number in range(3)} | {str(number): number for number in range(200)}
    found = slim(many)
    assert list(found.items())[:2] == [("k" * 100, 2), ("0", 0)]
    assert len(found) == 98
    inner = slim({"object": many | {"list": [1], "object": {}}, "list": [1], "none": None})
    assert (set(inner), len(inner["object"])) == ({"object", "none"}, 98)
    assert slim({"object": {"list": [1], "object": {}, "text": "x" * 301}}) == {"object": {"text": "x" * 299 + "…"}}


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_a_row_may_have_its_greatest_length(more: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_stream, "MAX_ROW_CHARS", 40)
    row = b'{"a": "' + b"x" * (32 + more) + b'"'
    chunks = [b"[", row, b"}]"]
    if fits:
        assert list(rows_in(chunks)) == [{"a": "x" * 32}]
    else:
        with pytest.raises(NotRows, match=r"^has a row that is too long, or ends too early$"):
            list(rows_in(chunks))


@pytest.mark.parametrize(("spaces", "fits"), [(8192, True), (8193, False)])
def test_what_may_stand_before_the_rows(spaces: int, fits: bool) -> None:
    chunks = [b" " * spaces, b"[]"]
    if fits:
        assert list(rows_in(chunks)) == []
    else:
        with pytest.raises(NotRows, match="is not JSON"):
            list(rows_in(chunks))
    assert list(rows_in([b'{"next": "' + b"x" * 4000 + b'", "results" : [{}]}'])) == [{}]


def test_the_begin_of_what_are_no_rows_is_told() -> None:
    for text in ("x" * 50, '{"detail": "' + "x" * 50 + '"}', "[7" + " " * 50 + "]", '[{"a":' + "x" * 50):
        with pytest.raises(NotRows) as told:
            list(rows_in([text.encode()]))
        assert told.value.start == text.removeprefix("[")[:40] if text.startswith("[") else text[:40]
