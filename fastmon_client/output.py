"""What `start` writes where there is no live view: lines for people, or JSON, one object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from io import TextIOWrapper
from typing import Any

import click
from loguru import logger

from fastmon_client.app_state import AppState
from fastmon_client.formatting import line
from fastmon_client.snapshot import RunRow, Snapshot
from fastmon_client.stream import Message
from fastmon_client.tffile import ANNOUNCED


def line_by_line() -> None:
    """Each line of stdout goes out at once; a name outside the terminal's encoding is shown as well."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)


class Quiet:
    """Alarms only: on stderr, with a bell if asked for."""

    def __init__(self, *, bell: bool = False) -> None:
        self._bell = bell
        self._raised = 0
        self._lines: list[str] = []

    def message(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """A message."""

    def flush(self) -> None:
        """Write what was collected: one call for all that came at once, since each may cost a change of thread."""
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            sys.stdout.write(text)

    def turn(self, state: AppState, at: datetime) -> None:
        """Tell what alarms are new."""
        if state.alarms.raised == self._raised:
            return
        fresh, self._raised = state.alarms.raised - self._raised, state.alarms.raised
        for alarm in reversed(state.alarms.rows(at)[:fresh]):
            run = f" (run {alarm['run']})" if alarm["run"] else ""
            logger.warning("alarm {}{}: {}", alarm["kind"], run, alarm["evidence"])
        if self._bell:
            click.echo("\a", nl=False, err=True)


class Lines(Quiet):
    """A line for each message."""

    def message(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """A message."""
        self._lines.append(f"{line(message)}{'  backfilled' if backfilled else ''}\n")


class JsonLines(Quiet):
    """Objects with a `kind`; their schema is in docs/client.md."""

    def __init__(self, *, bell: bool = False) -> None:
        super().__init__(bell=bell)
        self._told: dict[str, Any] = {}
        """What was last said of each subject that there still is."""

    def message(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """The message as it came, and what it is to us."""
        kind = "tf_file" if message.get("msg_type") == ANNOUNCED else "message"
        text = message.text if isinstance(message, Message) else ""
        if text and "kind" not in message and "backfilled" not in message:  # as it came, and two more members
            self._lines.append(f'{text[:-1]}, "kind": "{kind}", "backfilled": {"true" if backfilled else "false"}}}\n')
        else:
            self._lines.append(f"{_strict({**message, 'kind': kind, 'backfilled': backfilled})}\n")

    def turn(self, picture: AppState, at: datetime) -> None:
        """Tell what has changed: the connection, runs, alarms."""
        super().turn(picture, at)
        before, self._told = self._told, {}
        connection = picture.connection.row(at)
        state = connection["state"], connection["reason"]
        self._tell(before, "connection", {"kind": "connection", **connection}, state)
        for run in picture.rows(at, strip=False):
            changes = [run[key] for key in ("state", "stale", "verified", "doubt", "missing", "stfs_incomplete")]
            self._tell(before, f"run {run['run']}", _run_object(run), changes)
        for alarm in picture.alarms.rows(at):
            row = {**alarm, "alarm": alarm["kind"], "kind": "alarm"}
            self._tell(before, f"{alarm['kind']} {alarm['since']} {alarm['run']}", row, alarm["until"])
        self.flush()

    def _tell(self, before: Mapping[str, Any], subject: str, row: Mapping[str, Any], changes: Any) -> None:
        self._told[subject] = changes
        if before.get(subject, self) != changes:
            self._lines.append(f"{json.dumps(row)}\n")


def _strict(found: Mapping[str, Any]) -> str:
    """*found* as JSON; a number that JSON has no word for (it came as NaN, or as 1e999) is null."""
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
