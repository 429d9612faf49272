"""The rows that the monitor gets about an STF, as of the last transition in a report: its workflow, and our stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.monitor.directory import AGENT_TYPE
from fastmon_daemon.outbox import HistoryRow, PendingReport, Stf
from fastmon_daemon.statechart import StateMachine

DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")
"""The DAQ states and substates that the monitor accepts."""

_RUN_ID_MAX, _EXECUTION_ID_MAX = 50, 100
_TRANSITIONS_MAX = 200
"""Most transitions in a stage's metadata; only the last ones of an STF that was retried many times."""

Row = dict[str, Any]


def workflow_row(report: PendingReport, chart: StateMachine, file_id: str | None) -> Row:
    """Return the workflow row of an STF that has none; fields missing in its message are filled in and listed.

    *file_id* is that of the monitor's row of the STF, if known.
    """
    stf = report.stf
    message = _message(stf)
    known = {
        "daq_state": message.get("state") if message.get("state") in DAQ_STATES else None,
        "daq_substate": message.get("substate") if message.get("substate") in DAQ_SUBSTATES else None,
        "generated_time": _time(message.get("timestamp")),
        "stf_start_time": _time(message.get("start")),
        "stf_end_time": _time(message.get("end")),
    }
    filled = {"daq_state": "run", "daq_substate": "physics"}
    missing = [key for key, value in known.items() if value is None]
    return {
        "filename": stf.filename,
        "namespace": stf.namespace,
        "execution_id": stf.execution_id[:_EXECUTION_ID_MAX] if stf.execution_id else None,
        "run_id": str(stf.run_id) if len(str(stf.run_id)) <= _RUN_ID_MAX else None,
        "file_id": file_id or _uuid(message.get("file_id")),
        **known,
        **{key: filled.get(key, stf.born_at) for key in missing},
        **workflow_status(report.history, chart),
        "stf_metadata": {"created_by": AGENT_TYPE, "filled_in": missing},
    }


def workflow_status(history: Sequence[HistoryRow], chart: StateMachine) -> Row:
    """Return the fields of a workflow that follow the stage: those after the transitions in *history*."""
    failed = _failure(history, chart)
    return {
        "current_status": _status(history, chart),
        "current_agent": AGENT_TYPE,
        "failed_at": failed.at if failed else None,
        "failure_reason": failed.note if failed else None,
    }


def stage_row(report: PendingReport, chart: StateMachine) -> Row:
    """Return the complete stage row of an STF: a lost report is made good by the next one."""
    life = _current_life(report.history)
    received_at = life[0].at
    step = next((row for row in life if row.trigger in chart.steps), None)
    completed = next((row for row in life if row.dest == chart.success_state), None)
    failed = _failure(report.history, chart)
    ended = completed or failed
    return {
        "status": _status(report.history, chart),
        "received_at": received_at,
        "started_at": step.at if step else None,
        "completed_at": completed.at if completed else None,
        "failed_at": failed.at if failed else None,
        "processing_time_seconds": _seconds(received_at, ended.at) if ended else None,
        "failure_reason": failed.note if failed else None,
        "output_message": _output(report.stf) if completed else None,
        "stage_metadata": _metadata(report, chart),
    }


def new_stage_row(report: PendingReport, chart: StateMachine, agent_name: str, workflow_id: str) -> Row:
    """Return the stage row of an STF that has no stage yet."""
    keys = {"workflow": workflow_id, "agent_name": agent_name, "agent_type": AGENT_TYPE}
    return {**keys, **stage_row(report, chart), "input_message": _message(report.stf)}


def _current_life(history: Sequence[HistoryRow]) -> list[HistoryRow]:
    return [row for row in history if row.life == history[-1].life]


def _status(history: Sequence[HistoryRow], chart: StateMachine) -> str | None:
    return next((name for row in reversed(history) if (name := chart.reported_as(row.dest))), None)


def _failure(history: Sequence[HistoryRow], chart: StateMachine) -> HistoryRow | None:
    """The transition of the current life into a state that an operator may retry."""
    return next((row for row in _current_life(history) if chart.may(row.dest, "retry")), None) if history else None


def _output(stf: Stf) -> Row:
    files = [
        {"tf_filename": tf.filename, "tf_file_id": tf.monitor_id, "tf_first": tf.first, "tf_last": tf.last}
        for tf in stf.tfs
    ]
    return {"msg_type": "tf_file_registered", "count": len(files), "tf_files": files}


def _metadata(report: PendingReport, chart: StateMachine) -> Row:
    stf, last = report.stf, report.history[-1]
    is_current = (last.dest, last.at) == (stf.state, stf.since)
    is_sampled = any(row.trigger in chart.steps for row in report.history)  # a sample is kept for all later lives
    return {
        "state": last.dest,
        "since": last.at,
        "life": last.life,
        "attempts": stf.attempts if is_current else 0,
        "origin": stf.origin,
        "remark": stf.remark,
        "tf_files": len(stf.tfs) if is_sampled else 0,
        "sample": asdict(stf.plan) if stf.plan and is_sampled else None,
        "transitions": [
            {"at": row.at, "trigger": row.trigger, "from": row.source, "to": row.dest, "note": row.note}
            for row in report.history[-_TRANSITIONS_MAX:]
        ],
    }


def _message(stf: Stf) -> Row:
    """Return the message, or the monitor's row, of the STF."""
    message: Row = json.loads(stf.body)
    return message


def _time(value: object) -> str | None:
    """Return *value* if it is an ISO 8601 time with an offset, else None."""
    try:
        read = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return read.isoformat() if read.tzinfo else None


def _uuid(value: object) -> str | None:
    try:
        return str(UUID(str(value)))
    except ValueError:
        return None


def _seconds(begin: str, end: str) -> float:
    return round((parse_timestamp(end) - parse_timestamp(begin)).total_seconds(), 3)
