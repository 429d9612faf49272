"""Heart-beats of agents, with the monitor's traps: omitted fields are reset, and silent agents become EXITED."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fastmon_daemon.testbed.monitor.fields import REQUIRED, DatabaseError, InvalidValue
from fastmon_daemon.testbed.monitor.store import Row, Store, ValidationError
from fastmon_daemon.testbed.monitor.tables import SYSTEM_AGENTS

SILENT_AFTER = timedelta(minutes=3)
RESET = {"agent_type": "other", "description": "", "status": "OK", "agent_url": None, "namespace": None}
KEPT = ("pid", "hostname", "operational_state", "workflow_enabled")
LONGEST = {
    "instance_name": 100,
    "agent_type": 20,
    "status": 10,
    "agent_url": 200,
    "namespace": 100,
    "hostname": 100,
    "operational_state": 20,
}


def heartbeat(store: Store, data: Any) -> tuple[Row, bool]:
    """Store a heart-beat sent to ``systemagents/heartbeat/``; return the agent's row and whether it is new.

    Raises: ValidationError without an instance name; DatabaseError if another value does not fit its column.
    """
    given = data if isinstance(data, dict) else {}
    if not given.get("instance_name"):
        raise ValidationError({"instance_name": [REQUIRED]})
    beat = {name: given.get(name, default) for name, default in RESET.items()}
    beat |= {name: given[name] for name in KEPT if name in given}
    beat["instance_name"] = given["instance_name"]
    _check_columns(beat)
    row, new = _upsert(store, beat)
    _mark_silent(store)
    return row, new


def heartbeat_on_topic(store: Store, message: Row) -> None:
    """Store *message* as a heart-beat, as the monitor does with any message that has ``agent_name`` and ``status``."""
    beat = {
        "instance_name": message["agent_name"],
        "agent_type": message.get("agent_type", "Unknown"),
        "status": message["status"],
    }
    try:
        _check_columns(beat)
    except DatabaseError:
        return
    _upsert(store, beat)


def _check_columns(beat: Row) -> None:
    for name, longest in LONGEST.items():
        value = beat.get(name)
        if value is None and name in ("instance_name", "agent_type", "status") and name in beat:
            raise DatabaseError(f"{name} is null")
        if value is not None and (len(str(value)) > longest or "\0" in str(value)):
            raise DatabaseError(f"{name} does not fit")
    if beat.get("pid") is not None:
        try:
            SYSTEM_AGENTS.by_name["pid"].clean(beat["pid"])
        except InvalidValue as invalid:
            raise DatabaseError("pid is no number") from invalid


def _upsert(store: Store, beat: Row) -> tuple[Row, bool]:
    table = store.tables["systemagents"]
    key = table.key_of("instance_name", beat["instance_name"])
    new = key is None
    stamp = store.timestamp()
    if new:
        key = table.new_key()
        defaults = {each.name: each.default for each in SYSTEM_AGENTS.fields}
        row = {**defaults, "id": key, "created_at": stamp}
    else:
        row = table.rows[key]
    row = {**row, **beat, "last_heartbeat": stamp, "updated_at": stamp}
    table.put(key, row)
    return row, new


def _mark_silent(store: Store) -> None:
    oldest = store.now() - SILENT_AFTER
    table = store.tables["systemagents"]
    for key, row in list(table.rows.items()):
        seen = row["last_heartbeat"]
        if seen and row["status"] != "EXITED" and datetime.fromisoformat(seen) < oldest:
            table.put(key, {**row, "status": "EXITED", "operational_state": "EXITED"})
