"""What an agent reports to the monitor about itself: name, heart-beats, subscription, stages and log.

The main job needs none of it: an `AgentClient` has connections of its own. Every call raises the errors of
`RestClient.request`. This module must not know when or why something is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from fastmon_daemon.monitor.responses import STF_FILES, RequestRejected
from fastmon_daemon.monitor.rest_client import RestClient
from fastmon_daemon.monitor.row_stream import rows_in
from fastmon_daemon.monitor.rows import json_text, rows_of
from fastmon_daemon.monitor.transport import read_body

AGENTS = "systemagents/"
WORKFLOWS = "workflows/"
STAGES = "workflow-stages/"

_TABLE_SLACK_S = 22.0
"""Seconds that reading a whole table may take beyond other calls."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StfRecord:
    """What the monitor's row of an STF refers to."""

    file_id: str
    workflow_id: str | None


class AgentClient(RestClient):
    """The calls of an agent; for any thread."""

    def next_agent_id(self) -> int:
        """Get a number that no other agent gets; each call uses one up."""
        return self.request("POST", "state/next-agent-id/", lambda row: int(row["agent_id"]), body="{}")

    def ensure_namespace(self, name: str, owner: str) -> None:
        """Create the namespace; an existing one keeps its owner."""
        self._send("POST", "namespaces/ensure/", {"name": name, "owner": owner})

    def subscribe(self, subscriber: Row) -> None:
        """Create the subscriber, unless it exists."""
        try:
            self._send("POST", "subscribers/", subscriber)
        except RequestRejected as exc:
            if not exc.has_error("subscriber_name", "already exists"):
                raise

    def heartbeat(self, agent: Row) -> int:
        """Send a heart-beat; return the key of the agent's row. The monitor resets each field that *agent* lacks."""
        return self.request("POST", f"{AGENTS}heartbeat/", lambda row: int(row["id"]), body=json_text(agent))

    def update_agent(self, key: int, fields: Row) -> None:
        """Set fields that heart-beats cannot set."""
        self._send("PATCH", f"{AGENTS}{key}/", fields)

    def find_stf(self, stf_filename: str) -> StfRecord | None:
        """The ids in the STF's row; None without a row."""
        return self.request("GET", STF_FILES, _stf_record, query={"stf_filename": stf_filename})

    def create_workflow(self, workflow: Row) -> str:
        """Create the workflow of an STF; return its id, which only `read_table` can find later."""
        return self.request("POST", WORKFLOWS, lambda row: str(row["workflow_id"]), body=json_text(workflow))

    def run_of_workflow(self, workflow_id: str) -> str | None:
        """The `run_id` of a workflow; None if it has none."""
        return self.request("GET", f"{WORKFLOWS}{workflow_id}/", lambda row: row["run_id"] and str(row["run_id"]))

    def update_workflow(self, workflow_id: str, fields: Row) -> None:
        """Set *fields* of a workflow."""
        self._send("PATCH", f"{WORKFLOWS}{workflow_id}/", fields)

    def create_stage(self, stage: Row) -> str:
        """Create the stage of an STF; return its id, which only `read_table` can find later."""
        return self.request("POST", STAGES, lambda row: str(row["stage_id"]), body=json_text(stage))

    def update_stage(self, stage_id: str, fields: Row) -> None:
        """Set *fields* of a stage."""
        self._send("PATCH", f"{STAGES}{stage_id}/", fields)

    def read_table(self, path: str, take: Callable[[Any], bool]) -> None:
        """Pass the rows of the table at *path* to *take*, the newest first, while it returns True.

        The monitor has no filter for these tables and sends each one whole: a call to be made rarely.
        """

        def read(response: requests.Response) -> str:
            if response.status_code != requests.codes.ok:
                return read_body(response)
            for row in rows_in(response):
                if not take(row):
                    break
            return "null"

        self.request("GET", path, lambda _: None, slack_s=_TABLE_SLACK_S, read=read)

    def log(self, row: Row) -> None:
        """Add a row to the monitor's log."""
        self._send("POST", "logs/", row)

    def _send(self, method: str, path: str, row: Row) -> None:
        self.request(method, path, lambda _: None, body=json_text(row))


def _stf_record(answer: Any) -> StfRecord | None:
    for row in rows_of(answer):
        workflow_id = row.get("workflow_id")
        return StfRecord(file_id=str(row["file_id"]), workflow_id=str(workflow_id) if workflow_id else None)
    return None
