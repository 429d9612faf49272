"""The main loop, with a monitor that sends what no monitor should send."""

from __future__ import annotations

from fastmon_client.app_state import AppState
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import MessageFilter
from fastmon_client.monitor_session import MonitorSession
from fastmon_client.output import Quiet
from fastmon_client.session import Session, StopConditions, now
from tests.client.scripted_server import OPEN, ScriptedServer, event


def session_at(url: str, limits: StopConditions) -> Session:
    filter_ = MessageFilter(types=("tf_file_registered",))
    state = AppState(url, filter_, now(), intervals=Intervals(tick_s=0.1, runs_s=3600))
    return Session(MonitorSession(url=url, token=str), filter_.subscribed_types, state, Quiet(), limits)


def test_messages_that_are_nested_too_deeply_are_skipped() -> None:
    # What the reader can just take may be too deep for who hears it: he stands higher on the stack.
    deep = [
        event(f'{{"msg_type": "start_run", "run_id": {"[" * depth}{"]" * depth}}}') for depth in range(800, 1000, 5)
    ]
    last = event('{"msg_type": "tf_file_registered", "run_id": 7, "tf_filename": "a.tf"}')
    answer = [OPEN, *deep, last]
    with ScriptedServer(answer, answer, answer) as server:  # the table of runs is asked for as well, perhaps first
        session = session_at(server.url, StopConditions(count=1))
        session.run()
    runs = [run["run"] for run in session.snapshot()["runs"]]
    assert runs[0] == "7"
    assert session.refusal is None
