"""The output of `start` without a live view: text or JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import click
from loguru import logger

from fastmon_client.app_state import AppState
from fastmon_client.formatting import escape, line, status_line
from fastmon_client.snapshot import ReferenceRow, RunRow, Snapshot
from fastmon_client.stream import Message
from fastmon_client.tffile import ANNOUNCED

MAX_LOGGED = 10
"""Alarms that are logged at a time: whoever may publish can invent agents."""


class Quiet:
    """Alarms only: on stderr, optionally with a bell."""

    def __init__(self, *, bell: bool = False) -> None:
        self._bell = bell
        self._raised = 0
        self._lines: list[str] = []
        self._reference_text = ""

    def write(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """Write nothing."""

    def flush(self) -> None:
        """Write the collected lines in one call, which may cost a thread switch."""
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            sys.stdout.write(text)

    def update(self, state: AppState, at: datetime) -> None:
        """Log new alarms."""
        if state.alarms.raised == self._raised:
            return
        fresh, self._raised = state.alarms.raised - self._raised, state.alarms.raised
        for alarm in reversed(state.alarms.rows(at)[: min(fresh, MAX_LOGGED)]):
            run = f" (run {alarm['run']})" if alarm["run"] else ""
            logger.warning("alarm {}{}: {}", alarm["kind"], run, alarm["evidence"])
        if fresh > MAX_LOGGED:
            logger.warning("{} more alarms", fresh - MAX_LOGGED)
        if self._bell:
            click.echo("\a", nl=False, err=True)

    def _new_reference(self, state: AppState) -> ReferenceRow | None:
        """The comparison with the reference run, if it says something new."""
        found = state.reference
        if found is None or found["text"] == self._reference_text:
            return None
        self._reference_text = found["text"]
        return found


class Lines(Quiet):
    """One text line per message, and regularly one of status."""

    def __init__(self, *, bell: bool = False) -> None:
        super().__init__(bell=bell)
        self._next_status: datetime | None = None

    def write(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """Write a message."""
        self._lines.append(f"{line(message)}{'  backfilled' if backfilled else ''}\n")

    def update(self, state: AppState, at: datetime) -> None:
        """Log new alarms; write a line of status when it is due, and a new comparison with the reference run."""
        super().update(state, at)
        if found := self._new_reference(state):
            self._lines.append(f"{at:%H:%M:%S}  {escape(found['text'])}\n")
            self.flush()
        pause = timedelta(seconds=state.intervals.status_s)
        self._next_status = self._next_status or at + pause
        if at >= self._next_status:
            self._next_status = at + pause
            self._lines.append(f"{status_line(state.snapshot(at))}\n")
            self.flush()


class JsonLines(Quiet):
    """One JSON object per line, with a `kind`; docs/reference/json.md has the keys."""

    def __init__(self, *, bell: bool = False) -> None:
        super().__init__(bell=bell)
        self._last_written: dict[str, Any] = {}
        """The last written key fields of each connection, run and alarm."""

    def write(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """Write the message as received, with `kind` and `backfilled`."""
        kind = "tf_file" if message.get("msg_type") == ANNOUNCED else "message"
        text = message.text if isinstance(message, Message) else ""
        if text and "kind" not in message and "backfilled" not in message:  # append two members
            self._lines.append(f'{text[:-1]}, "kind": "{kind}", "backfilled": {"true" if backfilled else "false"}}}\n')
        else:
            self._lines.append(f"{_strict({**message, 'kind': kind, 'backfilled': backfilled})}\n")

    def update(self, state: AppState, at: datetime) -> None:
        """Write what changed: the connection, runs, alarms."""
        super().update(state, at)
        before, self._last_written = self._last_written, {}
        connection = state.connection.row(at)
        self._write_if_changed(
            before, "connection", {"kind": "connection", **connection}, (connection["state"], connection["reason"])
        )
        for run in state.rows(at, strip=False):
            changes = [run[key] for key in ("state", "stale", "verified", "doubt", "missing", "stfs_incomplete")]
            self._write_if_changed(before, f"run {run['run']}", _run_object(run), changes)
        for alarm in state.alarms.rows(at):
            row = {**alarm, "alarm": alarm["kind"], "kind": "alarm"}
            self._write_if_changed(before, f"{alarm['kind']} {alarm['since']} {alarm['run']}", row, alarm["until"])
        if found := self._new_reference(state):
            self._lines.append(f"{json.dumps({'kind': 'reference', **found})}\n")
        self.flush()

    def _write_if_changed(self, before: Mapping[str, Any], subject: str, row: Mapping[str, Any], changes: Any) -> None:
        self._last_written[subject] = changes
        if before.get(subject, self) != changes:
            self._lines.append(f"{json.dumps(row)}\n")


def _strict(found: Mapping[str, Any]) -> str:
    """*found* as JSON; NaN and Infinity (also from 1e999) become null."""
    try:
        return json.dumps(found, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(found), parse_constant=lambda _name: None))


def summary_object(snapshot: Snapshot) -> dict[str, Any]:
    """The last object of the JSON lines."""
    return {
        "kind": "summary", "at": snapshot["at"], "uptime_s": snapshot["uptime_s"], "connection": snapshot["connection"],
        "totals": snapshot["totals"], "runs": [_run_object(run) for run in snapshot["runs"]],
    }  # fmt: skip


def _run_object(run: RunRow) -> dict[str, Any]:
    return {"kind": "run", **{key: value for key, value in run.items() if key != "strip"}}
