"""The main loop, with strange and with very many messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from loguru import logger

from bench.stream_server import serving, stream_of
from fastmon_client.app_state import AppState
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import MessageFilter
from fastmon_client.monitor_session import MonitorSession
from fastmon_client.output import Quiet
from fastmon_client.query_worker import QueryFailed, StfsResult, TfFilesResult
from fastmon_client.session import Session, StopConditions, now
from tests.client.client_process import Client
from tests.client.scripted_server import OPEN, ScriptedServer, event
from tests.processes import wait_until

EVENTS = 7000


def session_at(url: str, limits: StopConditions) -> Session:
    filter_ = MessageFilter(types=("tf_file_registered",))
    state = AppState(url, filter_, now(), intervals=Intervals(tick_s=0.1, runs_s=3600))
    return Session(MonitorSession(url=url, token=str), filter_.subscribed_types, state, Quiet(), limits)


def test_deeply_nested_message_is_skipped() -> None:
    # The parser may accept a depth that is too much deeper on the stack.
    deep = [
        event(f'{{"msg_type": "start_run", "run_id": {"[" * depth}{"]" * depth}}}') for depth in range(800, 1000, 5)
    ]
    last = event('{"msg_type": "tf_file_registered", "run_id": 7, "tf_filename": "a.tf"}')
    answer = [OPEN, *deep, last]
    with ScriptedServer(answer, answer, answer) as server:  # the query of the table of runs may come first
        session = session_at(server.url, StopConditions(count=1))
        session.run()
    runs = [run["run"] for run in session.snapshot()["runs"]]
    assert runs[0] == "7"
    assert session.refusal is None


def test_a_flood_of_nested_messages_is_one_line_of_log(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = AppState.receive

    def receive_deep_on_the_stack(state: AppState, message: Mapping[str, Any], at: datetime) -> bool:
        if message["msg_type"] == "start_run":
            raise RecursionError
        return receive(state, message, at)

    monkeypatch.setattr(AppState, "receive", receive_deep_on_the_stack)
    lines: list[str] = []
    sink = logger.add(lambda text: lines.append(str(text)), format="{message}", level="WARNING")
    deep = [event('{"msg_type": "start_run", "run_id": 8}')] * 100
    answer = [OPEN, *deep, event('{"msg_type": "tf_file_registered", "run_id": 7, "tf_filename": "a.tf"}')]
    with ScriptedServer(answer, answer, answer) as server:
        session_at(server.url, StopConditions(count=1)).run()
    logger.remove(sink)
    assert [line for line in lines if "nested" in line] == ["event skipped: nested too deeply\n"]


def test_burst_of_thousands_is_shown_completely():
    with serving(stream_of(EVENTS)) as url, Client(url, "--json", "--count", str(EVENTS)) as client:
        code, lines = client.ended()
    objects = [json.loads(line) for line in lines]
    shown = [each for each in objects if each["kind"] == "tf_file"]
    assert code == 0
    assert len({each["tf_file_id"] for each in shown}) == len(shown) == EVENTS
    assert not any(each["backfilled"] for each in shown)  # the server has no tables


class Asked:
    """The queries that a session submits."""

    is_behind = False

    def __init__(self) -> None:
        self.listings: list[int] = []
        self.reads: list[tuple[int, list[str]]] = []

    def list_stfs(self, _run: str, comparison: int) -> None:
        self.listings.append(comparison)

    def fetch_tf_files(self, _run: str, stfs: list[str], comparison: int) -> None:
        self.reads.append((comparison, stfs))


def test_the_comparison_of_a_run_that_was_dropped_does_not_go_on_in_that_of_its_return() -> None:
    session = session_at("http://127.0.0.1:1", StopConditions())
    asked = session._queries = Asked()  # type: ignore[assignment]
    at = now() - timedelta(hours=1)
    stfs = [(f"swf.7.{n:06d}.stf", at) for n in range(1, 31)]

    def begin() -> int:
        session._process_notice({"msg_type": "start_run", "run_id": 7}, at)
        session._start_comparisons(at + timedelta(minutes=1))
        session._process_result(StfsResult("7", stfs, asked.listings[-1]), at + timedelta(minutes=1))
        return asked.listings[-1]

    old = begin()
    del session._state.runs["7"]  # it makes room for another one
    new = begin()
    assert [comparison for comparison, _ in asked.reads] == [old, new]
    session._process_result(TfFilesResult("7", [(stf, []) for stf in asked.reads[0][1]], old), now())
    session._process_result(QueryFailed("7", "no response", old), now())
    assert len(asked.reads) == 2
    for _ in range(3):
        session._process_result(TfFilesResult("7", [(stf, []) for stf in asked.reads[-1][1]], new), now())
    read = [stf for comparison, names in asked.reads if comparison == new for stf in names]
    assert sorted(read) == [name for name, _ in stfs]


def test_past_runs_are_compared_one_right_after_the_other() -> None:
    session = session_at("http://127.0.0.1:1", StopConditions())
    asked = session._queries = Asked()  # type: ignore[assignment]
    at = now()
    began, ended = ((at - timedelta(hours=hours)).isoformat() for hours in (5, 4))
    session._state.record_runs([{"run_number": 7, "start_time": began, "end_time": None}], at)
    rows = [{"run_number": number, "start_time": began, "end_time": ended} for number in (8, 9)]
    session._state.record_runs(rows, at)
    at += timedelta(minutes=1)
    session._start_comparisons(at)
    assert asked.listings == [1, 2]  # of run 7, and of the newest past one
    session._process_result(StfsResult("9", [], 2), at)
    assert asked.listings == [1, 2, 3]


def test_a_session_that_ended_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    answer = [OPEN, event('{"msg_type": "tf_file_registered", "run_id": 7, "tf_filename": "a.tf"}')]
    with ScriptedServer(answer, answer, answer) as server:
        known = {*before, *threading.enumerate()}
        session = session_at(server.url, StopConditions(count=1))
        assert not session.is_stopped
        session.run()
        assert (session.is_stopped, session.connected_once) == (True, True)
    wait_until(lambda: not set(threading.enumerate()) - known, "its threads have ended")
