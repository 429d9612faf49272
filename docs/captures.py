"""The screens of the documents: a run as the client would have seen it, at a fixed time, drawn by the live view."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from fastmon_client.app_state import AppState
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.live import Model, render
from fastmon_client.live.navigation import Navigation
from fastmon_client.message_filter import MessageFilter

_MONITOR = "https://monitor.example/swf-monitor"
_BEGIN = datetime(2026, 11, 21, 20, 40, tzinfo=UTC)
_TFS = 3
_MISSING, _LATE, _INCOMPLETE = (31, 32), range(47, 52), (58,)


def screen(size: str, page: str = "overview") -> str:
    """What a terminal of *size* (`80x24`) shows, without its colours."""
    columns, lines = map(int, size.split("x"))
    model = Model(
        snapshot=(found := _state().snapshot(_BEGIN + timedelta(minutes=12, seconds=5))),
        incidents=[{**each, "acknowledged": None} for each in incidents_of(found["alarms"])],
        details={"names": {number: _stf("100014", number) for number in (*_MISSING, *_INCOMPLETE)}, "stfs": 72,
                 "monitor_page": f"{_MONITOR}/runs/100014/"} if page == "run" else {},
        navigation=Navigation(page=page, back=("overview",) if page != "overview" else (), run="100014"),
    )  # fmt: skip
    return "\n".join(line.plain.rstrip() for line in render(model, columns, lines)) + "\n"


@cache
def _state() -> AppState:
    filter_ = MessageFilter(types=("tf_file_registered", "fastmon_status"))
    state, at = AppState(_MONITOR, filter_, _BEGIN), _BEGIN
    state.connected(at)
    for run, stfs, begin in (("100013", 60, _BEGIN), ("100014", 72, _BEGIN + timedelta(minutes=6))):
        state.record_runs([{"run_number": int(run), "start_time": begin.isoformat()}], begin)
        for sequence in range(1, stfs + 1):
            at = begin + timedelta(seconds=5 * sequence)
            _announce(state, run, sequence, at)
            if sequence % 6 == 0:
                _heart_beat(state, at)
                _compare(state, run, sequence, begin, at)
            state.tick(at)
        if run == "100013":
            end = at + timedelta(seconds=20)
            state.receive({"msg_type": "end_run", "run_id": run, "total_stf_files": stfs}, at)
            _compare(state, run, stfs, begin, end)
            state.tick(end)
    return state


def _announce(state: AppState, run: str, sequence: int, at: datetime) -> None:
    is_odd = run == "100014"
    if is_odd and sequence in _MISSING:
        return
    for number in range(1, _TFS + (0 if is_odd and sequence in _INCOMPLETE else 1)):
        message = {
            "msg_type": "tf_file_registered", "run_id": run, "namespace": "epic", "stf_filename": _stf(run, sequence),
            "tf_filename": f"swf.{run}.{sequence:06d}_tf_{number:03d}.tf", "tf_file_id": f"{run}/{sequence}/{number}",
            "stf_sequence": sequence, "tf_total": _TFS, "selection_fraction": 1.0, "status": "registered",
            "file_size_bytes": 50_400_000, "timestamp": (at - timedelta(milliseconds=180)).isoformat(),
            "late": is_odd and sequence in _LATE, "processed_by": "fastmon-agent-1",
        }  # fmt: skip
        state.receive(message, at)


def _compare(state: AppState, run: str, stfs: int, begin: datetime, at: datetime) -> None:
    rows = [(_stf(run, number), begin + timedelta(seconds=5 * number)) for number in range(1, stfs + 1)]
    for name in state.record_stfs(run, rows, at):
        state.record_tf_files(run, name, [], at)
    state.finish_comparison(run, None, at)


def _heart_beat(state: AppState, at: datetime) -> None:
    row = {
        "instance_name": "fastmon-agent-1", "agent_type": "fastmon", "namespace": "epic", "hostname": "daq-7",
        "status": "OK", "description": "all well", "last_heartbeat": at.isoformat(),
        "current_stf_count": 0,
    }  # fmt: skip
    state.record_agents([row], at, at)


def _stf(run: str, sequence: int) -> str:
    return f"swf.{run}.{sequence:06d}.stf"
