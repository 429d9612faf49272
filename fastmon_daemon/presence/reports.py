"""What the monitor is told of an STF: the rows of its workflow and of its stage, made of what stands on disk.

Pure: it must not know how rows travel, nor when.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastmon_daemon.clock import moment
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.outbox import Debt, HistoryRow, Stf
from fastmon_daemon.presence.identity import AGENT_TYPE

DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")
"""What the monitor takes for the states of the DAQ."""

_TRANSITIONS_MAX = 200
"""An STF that a person retried over and over tells of its last transitions only."""

Row = dict[str, Any]


def workflow_row(stf: Stf) -> Row:
    """The workflow of an STF that nobody made one for; what its message does not say is filled in, and named."""
    told = _told(stf)
    known = {
        "daq_state": told.get("state") if told.get("state") in DAQ_STATES else None,
        "daq_substate": told.get("substate") if told.get("substate") in DAQ_SUBSTATES else None,
        "generated_time": _time(told.get("timestamp")),
        "stf_start_time": _time(told.get("start")),
        "stf_end_time": _time(told.get("end")),
    }
    filled = {"daq_state": "run", "daq_substate": "physics"}
    missing = [key for key, value in known.items() if value is None]
    return {
        "filename": stf.filename,
        "namespace": stf.namespace,
        "execution_id": stf.execution_id[:100] if stf.execution_id else None,
        "run_id": stf.run,
        **known,
        **{key: filled.get(key, stf.born_at) for key in missing},
        "current_status": "generated",
        "current_agent": AGENT_TYPE,
        "stf_metadata": {"created_by": AGENT_TYPE, "filled_in": missing},
    }


def stage_row(debt: Debt, chart: Chart) -> Row:
    """The stage of an STF as it is now, whole: a report that got lost is made good by the next one."""
    stf = debt.stf
    life = [row for row in debt.history if row.life == stf.life]
    began = life[0]
    step = next((row for row in life if row.trigger in chart.steps), None)
    completed = next((row for row in life if row.dest == chart.goal), None)
    failed = next((row for row in life if chart.may(row.dest, "retry")), None)
    ended = completed or failed
    return {
        "status": _status(debt.history, chart),
        "received_at": began.at,
        "started_at": step.at if step else None,
        "completed_at": completed.at if completed else None,
        "failed_at": failed.at if failed else None,
        "processing_time_seconds": _seconds(began.at, ended.at) if ended else None,
        "failure_reason": failed.note if failed else None,
        "output_message": _output(stf) if completed else None,
        "stage_metadata": _metadata(debt),
    }


def new_stage_row(debt: Debt, chart: Chart, agent_name: str, workflow_id: str) -> Row:
    """The stage of an STF that has none yet."""
    keys = {"workflow": workflow_id, "agent_name": agent_name, "agent_type": AGENT_TYPE}
    return {**keys, **stage_row(debt, chart), "input_message": _told(debt.stf)}


def _status(history: Sequence[HistoryRow], chart: Chart) -> str | None:
    """What the chart calls the latest state that is told to the monitor."""
    return next((told for row in reversed(history) if (told := chart.reported_as(row.dest))), None)


def _output(stf: Stf) -> Row:
    files = [
        {"tf_filename": tf.filename, "tf_file_id": tf.monitor_id, "tf_first": tf.first, "tf_last": tf.last}
        for tf in stf.tfs
    ]
    return {"msg_type": "tf_file_registered", "count": len(files), "tf_files": files}


def _metadata(debt: Debt) -> Row:
    stf = debt.stf
    return {
        "state": stf.state,
        "since": stf.since,
        "life": stf.life,
        "attempts": stf.attempts,
        "origin": stf.origin,
        "remark": stf.remark,
        "tf_files": len(stf.tfs),
        "sample": asdict(stf.plan) if stf.plan else None,
        "transitions": [
            {"at": row.at, "trigger": row.trigger, "from": row.source, "to": row.dest, "note": row.note}
            for row in debt.history[-_TRANSITIONS_MAX:]
        ],
    }


def _told(stf: Stf) -> Row:
    """The message, or the monitor's own row, that the STF came by."""
    told: Row = json.loads(stf.body)
    return told


def _time(value: object) -> str | None:
    """*value* where it is a time that the monitor reads as we do: ISO 8601, with its offset."""
    try:
        read = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return read.isoformat() if read.tzinfo else None


def _seconds(begin: str, end: str) -> float:
    return round((moment(end) - moment(begin)).total_seconds(), 3)
