"""What the client keeps is bounded, whatever the monitor answers and whoever publishes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastmon_client import app_state, monitor_tables, stfs
from fastmon_client.agents import MAX_AGENTS, MAX_SHOWN
from fastmon_client.alarms import MAX_ACTIVE, Alarms
from fastmon_client.app_state import MAX_OPEN_RUNS, AppState, Earlier
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.message_filter import MessageFilter
from fastmon_client.monitor_session import MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.row_stream import MAX_ROW_CHARS, NotRows, memory_of, rows_in, slim
from fastmon_client.runs import MAX_NEW_RUNS, NOT_COMPARED, RunTable
from fastmon_client.stream import message_of
from fastmon_client.tffile import MAX_TEXT
from fastmon_client.transport import MAX_HEAD_BYTES
from tests.client.scripted_server import ScriptedServer

AT = datetime(2026, 11, 26, 13, tzinfo=UTC)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 99000000000\r\n\r\n"


@pytest.fixture
def state() -> AppState:
    return AppState("http://monitor", MessageFilter(types=("tf_file_registered",)), AT)


def announcement(run: object, number: int, **fields: Any) -> dict[str, Any]:
    stf = f"swf.{run}.{number:06d}.stf"
    return {"msg_type": "tf_file_registered", "run_id": run, "stf_filename": stf, "tf_filename": f"{stf}_tf",
            "stf_sequence": number, "tf_total": 1, **fields}  # fmt: skip


def test_invented_runs_do_not_push_out_those_of_the_table(state: AppState) -> None:
    state.record_runs([{"run_number": number, "start_time": AT.isoformat()} for number in (7, 8)], AT)
    for number in (7, 8):
        state.receive(announcement(number, 1), AT)
    for number in range(3 * app_state.MAX_OPEN_RUNS):
        state.receive(announcement(f"invented {number}", 1), AT + timedelta(seconds=number))
    assert len(state.runs) <= app_state.MAX_OPEN_RUNS
    assert {"7", "8"} <= state.runs.keys()
    assert state.snapshot(AT)["totals"]["tf_files"] == 3 * app_state.MAX_OPEN_RUNS + 2


def test_past_runs_of_an_endless_table_are_bounded(state: AppState) -> None:
    state.record_runs([{"run_number": 7, "start_time": AT.isoformat()}], AT)
    for number in range(1, 30):
        at = AT + timedelta(minutes=number)
        state.receive(announcement(7, number), at)
        rows = [{"run_number": 100 * number + n, "end_time": AT.isoformat()} for n in range(MAX_NEW_RUNS)]
        state.record_runs(rows, at)
        for run in state.start_comparisons(at):
            state.finish_comparison(run, "monitor answered 500", at)
        state.tick(at)
    assert len(state.runs) <= app_state.MAX_RUNS_WITH_PAST
    assert state.runs["7"].tf_files == 29


def test_all_runs_that_are_asked_for_are_followed() -> None:
    rows = [{"run_number": number, "start_time": None, "end_time": AT.isoformat()} for number in range(1, 900)]
    for last, names in ((200, ()), (0, tuple(map(str, range(1, 600))))):
        state = AppState("http://monitor", MessageFilter(types=(), run_ids=names), AT, earlier=Earlier(last))
        state.record_runs(rows, AT)
        assert len(state.runs) == last + len(names)


def push_out(state: AppState, run: str) -> None:
    for number in range(2 * app_state.MAX_OPEN_RUNS):
        state.receive(announcement(f"invented {number}", 1), AT + timedelta(seconds=1))
    assert run not in state.runs


def test_answers_about_a_run_that_was_dropped_do_not_bring_it_back(state: AppState) -> None:
    state.receive(announcement(7, 1), AT)
    names = state.record_stfs("7", [(f"swf.7.{n:06d}.stf", AT) for n in (1, 2)], AT + timedelta(minutes=1))
    push_out(state, "7")
    for name in names:
        assert state.record_tf_files("7", name, [{"stf_file": name, "tf_filename": "a"}], AT) == []
    state.finish_comparison("7", None, AT)
    assert "7" not in state.runs


def test_the_comparison_of_a_run_that_was_dropped_does_not_verify_the_one_that_returned(state: AppState) -> None:
    state.receive(announcement(7, 1), AT)
    at = AT + timedelta(minutes=1)
    stfs = [(f"swf.7.{n:06d}.stf", AT) for n in range(1, 31)]
    assert state.start_comparisons(at) == ["7"]
    names = state.record_stfs("7", stfs, at)
    push_out(state, "7")
    state.receive(announcement(7, 31), at)
    assert state.still_to_query("7", names) == []
    state.finish_comparison("7", None, at)
    assert state.runs["7"].unknown_reason == NOT_COMPARED
    at += timedelta(seconds=2)
    assert "7" in state.start_comparisons(at)
    for name in state.record_stfs("7", stfs, at):
        state.record_tf_files("7", name, [{"stf_file": name, "tf_filename": f"{name}_tf"}], at)
    state.finish_comparison("7", None, at)
    assert (state.runs["7"].tf_files, state.runs["7"].unknown_reason) == (31, "")


def test_invented_sequence_numbers_do_not_fill_the_memory(state: AppState) -> None:
    state.record_runs([{"run_number": 7, "start_time": AT.isoformat()}], AT)
    state.receive(announcement(7, 1_000_000), AT)
    for number in range(150):
        state.receive(announcement(1000 + number, 1_000_000), AT)
        assert sum(run.stfs.memory for run in state.runs.values()) <= app_state.MAX_MEMORY
    assert "7" in state.runs


def test_invented_tf_files_of_one_stf_are_not_counted_without_end(state: AppState) -> None:
    for number in range(2 * stfs.MAX_TF_FILES_PER_STF):
        state.receive(announcement(7, 1, tf_filename=f"{number}.tf", tf_total=None), AT)
    assert state.runs["7"].tf_files == stfs.MAX_TF_FILES_PER_STF


def test_open_tf_files_are_bounded(state: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stfs, "MAX_TF_FILES", 100)
    for number in range(1, 1000):
        state.receive(announcement(7, number, tf_total=7), AT)
    assert len(state.runs["7"].stfs._open) <= 101


def test_names_without_a_number_are_bounded(state: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stfs, "MAX_OPEN_STFS", 10)
    monkeypatch.setattr(stfs, "_MAX_COMPACTED_NAMES", 20)
    for number in range(100):
        state.receive(announcement(7, 0, stf_filename=f"name {number}", stf_sequence=None), AT)
    assert len(state.runs["7"].stfs._compacted) == 20
    assert state.runs["7"].tf_files == 100


def test_run_with_more_absent_stfs_than_are_asked_for_is_unknown(
    state: AppState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stfs, "MAX_ABSENT", 10)
    state.receive({"msg_type": "start_run", "run_id": 7}, AT)
    at = AT + timedelta(minutes=1)
    assert state.start_comparisons(at) == ["7"]
    names = state.record_stfs("7", [(f"swf.7.{n:06d}.stf", AT) for n in range(1, 31)], at)
    assert len(names) == 10
    for name in names:
        state.record_tf_files("7", name, [], at)
    state.finish_comparison("7", None, at)
    [row] = state.snapshot(at)["runs"]
    assert (row["verified"], row["doubt"]) == ("UNKNOWN", "20 more STFs without TF files than are compared")


def test_table_of_new_runs_adds_few_at_a_time() -> None:
    table = RunTable()
    table.update([{"run_number": 1, "start_time": AT.isoformat()}], AT)
    fresh, _ = table.update([{"run_number": number, "start_time": None} for number in range(5000)], AT)
    assert fresh == list(range(5000 - MAX_NEW_RUNS, 5000))
    assert [table.contains(run) for run in ("4999", "5000", "cosmic")] == [True, False, False]


def test_alarms_of_invented_agents_are_bounded() -> None:
    alarms = Alarms()
    alarms.set("stream_dead", None, "lost", AT, None)
    for number in range(3 * MAX_ACTIVE):
        alarms.set("daemon_degraded", f"agent {number}", "degraded", AT, None)
    active = [row["kind"] for row in alarms.rows(AT) if row["until"] is None]
    assert (len(active), active.count("stream_dead")) == (MAX_ACTIVE + 1, 1)


def test_invented_agents_end_no_alarm_of_a_real_one(state: AppState) -> None:
    def say(name: str) -> None:
        state.receive({"msg_type": "fastmon_status", "processed_by": name, "status": "degraded"}, AT)

    def degraded() -> list[str | None]:
        return [row["subject"] for row in state.alarms.rows(AT) if row["until"] is None]

    row = {"agent_type": "FASTMON", "namespace": "ns", "last_heartbeat": AT.isoformat()}
    state.record_agents([{**row, "instance_name": name} for name in ("early", "late")], AT, AT)
    say("early")
    for number in range(2 * MAX_ACTIVE):
        say(f"invented {number}")
    say("late")
    assert {"early", "late"} <= set(degraded())
    assert len(degraded()) == MAX_ACTIVE


def test_a_run_that_made_room_for_invented_ones_before_the_table_was_read_comes_back(state: AppState) -> None:
    start = {"msg_type": "start_run", "namespace": "ns"}
    state.receive({**start, "run_id": 7}, AT)
    for number in range(3 * MAX_OPEN_RUNS):
        state.receive({**start, "run_id": 1000 + number}, AT + timedelta(seconds=1 + number))
    assert "7" not in state.runs
    row = {"end_time": None, "start_time": AT.isoformat()}
    rows = [{**row, "run_number": 7}, {**row, "run_number": 8, "start_time": (AT + timedelta(hours=1)).isoformat()}]
    state.record_runs(rows, AT + timedelta(hours=2))
    assert {"7", "8"} <= set(state.runs)
    assert not state.runs["7"].is_past


def test_invented_agents_do_not_hide_the_signs_of_life_of_the_real_one(state: AppState) -> None:
    row = {"instance_name": "y", "agent_type": "FASTMON", "namespace": "ns", "status": "OK",
           "last_heartbeat": AT.isoformat()}  # fmt: skip
    for number in range(3 * MAX_AGENTS):
        state.receive(announcement(7, 1, processed_by=f"a {number}"), AT)
    at = AT + timedelta(minutes=5)
    state.receive(announcement(7, 2, processed_by="y"), at)
    state.record_agents([row], at, at)
    assert [agent["state"] for agent in state.snapshot(at)["tiles"]["daemon"]["agents"]] == ["good"]
    assert len(state.agents._signs) == MAX_AGENTS


@pytest.mark.parametrize("namespace", ["ns", "{}"])
def test_invented_daemons_neither_fill_the_snapshot_nor_hide_the_real_one(state: AppState, namespace: str) -> None:
    row = {"instance_name": "z", "agent_type": "FASTMON", "namespace": "z", "last_heartbeat": AT.isoformat()}
    state.record_agents([row, {**row, "instance_name": "y", "namespace": "ns"}], AT, AT)
    for number in range(MAX_AGENTS):
        name = namespace.format(number)
        state.receive({"msg_type": "fastmon_status", "processed_by": f"a {number}", "namespace": name}, AT)
    tile = state.snapshot(AT)["tiles"]["daemon"]
    assert len(tile["agents"]) == MAX_SHOWN
    assert {"y", "z"} <= {agent["name"] for agent in tile["agents"]}
    assert len(json.dumps(tile)) < MAX_SHOWN * 1000


@pytest.mark.parametrize("value", ["x" * 10_000, ["x" * 10_000], {"x" * 10_000: 1}])
def test_texts_of_a_message_are_cut(state: AppState, value: object) -> None:
    names = ("run_id", "stf_filename", "tf_filename", "status", "namespace", "processed_by", "tf_file_id")
    message = message_of(json.dumps(announcement(7, 1) | dict.fromkeys(names, value)), LogThrottle())
    assert message is not None
    assert message.text == ""  # it is written again, not as received
    state.receive(message, AT)
    assert len(json.dumps(state.snapshot(AT))) < 20 * MAX_TEXT
    [recent] = state.snapshot(AT)["recent"]
    assert len(recent["tf_filename"]) == MAX_TEXT


def test_texts_of_a_row_are_cut(state: AppState) -> None:
    long = "x" * 10_000
    row = {"tf_filename": long, "stf_file": long, "status": [long], "metadata": {"namespace": long, "agent_name": {}}}
    state.run("7", AT)
    [shown] = state.record_tf_files("7", long, [row], AT)
    assert max(len(str(value)) for value in shown.values()) == MAX_TEXT


def test_long_message_is_skipped_with_one_line(log_lines: list[str]) -> None:
    log = LogThrottle()
    for _ in range(3):
        assert message_of(json.dumps({"a": "x" * 2_000_000}), log) is None
    assert log_lines == ["event skipped: longer than 1048576 bytes\n"]


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="WARNING")
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_rows_arrive_in_any_chunks(size: int) -> None:
    rows = [{"a": 1, "b": "ü]"}, {}, {"c": [1, {"d": 2}]}]
    for table in (rows, {"count": 3, "next": "http://x?a[]=1", "results": rows}):
        text = b"\xef\xbb\xbf " + json.dumps(table, ensure_ascii=False).encode() + b"\n"
        assert list(rows_in(text[at : at + size] for at in range(0, len(text), size))) == rows


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"", "is not JSON"), (b"<html>[", "is not JSON"), (b'{"detail": []}', "is not a list"), (b"7", "is not a list"),
     (b"[1]", "is not a list"), (b'[{"a": 1}', "too early"), (b"[" * 100_000, "too deeply"),
     (b'[{"a": "' + b"x" * 2 * MAX_ROW_CHARS, "too long")],
)  # fmt: skip
def test_what_is_no_list_of_rows_is_named(text: bytes, reason: str) -> None:
    with pytest.raises(NotRows, match=reason):
        list(rows_in([text]))


def test_row_is_kept_without_what_nobody_needs() -> None:
    row = {
        "a": "x" * 1000,
        "b": [1] * 1000,
        "c": {"d": {"e": 1}, "f": "x" * 1000, "g": 1},
        **{str(n): n for n in range(999)},
    }
    kept = slim(row)
    assert kept["c"] == {"f": kept["a"], "g": 1}
    assert len(kept["a"]) == MAX_TEXT
    assert "b" not in kept
    assert len(kept) < 101
    assert memory_of(kept) < 30_000


@pytest.mark.parametrize(
    "row", [b'{"stf_file": "a.stf", "run_number": 1},', b"{},", b'{"stf_filename": "' + b"x" * 1000 + b'"},']
)
def test_table_without_end_is_not_read_to_its_end(row: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_tables, "MAX_LIST_BYTES", 100_000)
    monkeypatch.setattr(monitor_tables, "MAX_TF_FILES_BYTES", 100_000)
    monkeypatch.setattr(monitor_tables, "MAX_RESPONSE_BYTES", 1_000_000)
    with ScriptedServer(*(itertools.chain([HEAD, b"["], itertools.repeat(row * 1000)) for _ in range(3))) as server:
        tables = Tables(MonitorSession(url=server.url, token=str))
        for read in (tables.runs, lambda: tables.stfs(7), lambda: tables.tf_files("a.stf")):
            with pytest.raises(MonitorUnavailable, match=r"too long|too many|longer than"):
                read()
        tables.close()


def test_connection_is_kept_after_a_table() -> None:
    def answer(connection: Any) -> None:
        for _ in range(2):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[] \n")
            if _ == 0:
                connection.recv(65536)

    with ScriptedServer(answer) as server:
        tables = Tables(MonitorSession(url=server.url, token=str))
        assert [tables.runs(), tables.runs()] == [[], []]
        tables.close()


@pytest.mark.parametrize("status", [b"200 OK", b"103 Early Hints"])
def test_long_head_of_a_response_is_not_read(status: bytes) -> None:
    line = b"X-Long: " + b"x" * (MAX_HEAD_BYTES // 4) + b"\r\n"
    parts = itertools.repeat(b"HTTP/1.1 " + status + b"\r\n" + line + b"\r\n" * (status[:1] == b"1"))
    endless = itertools.chain(itertools.islice(parts, 1) if status[:1] == b"2" else parts, itertools.repeat(line))
    with ScriptedServer(endless) as server:
        tables = Tables(MonitorSession(url=server.url, token=str))
        with pytest.raises(MonitorUnavailable, match="invalid response"):
            tables.runs()
        tables.close()


def test_chunked_table_is_read() -> None:
    parts = [b'[{"run_number"', b": 7}", b"]"]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    with ScriptedServer([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body]) as server:
        tables = Tables(MonitorSession(url=server.url, token=str))
        assert tables.runs() == [{"run_number": 7}]
        tables.close()
