"""What an agent reports to the monitor about itself: name, heart-beats, subscription, stages and log.

The main job needs none of it: an `AgentClient` has connections of its own. Every call raises the errors of
`RestClient.request`. This module must not know when or why something is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastmon_daemon.monitor.responses import STF_FILES, RequestRejected
from fastmon_daemon.monitor.rest_client import RestClient
from fastmon_daemon.monitor.rows import id_in, integer_in, json_text, optional_id_in, run_key_in

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
    run_key: int | None
    """The monitor's key of its run."""


class AgentClient(RestClient):
    """The calls of an agent; for any thread."""

    def next_agent_id(self) -> int:
        """Get a number that no other agent gets; each call uses one up."""
        return self.request("POST", "state/next-agent-id/", lambda row: integer_in(row, "agent_id"), body="{}")

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
        return self.request("POST", f"{AGENTS}heartbeat/", lambda row: integer_in(row, "id"), body=json_text(agent))

    def update_agent(self, key: int, fields: Row) -> None:
        """Set fields that heart-beats cannot set."""
        self._send("PATCH", f"{AGENTS}{key}/", fields)

    def find_stf(self, stf_filename: str) -> StfRecord | None:
        """The ids in the STF's row; None without a row."""
        found: list[StfRecord] = []

        def take(row: Any) -> bool:
            file_id, workflow_id = id_in(row, "file_id"), optional_id_in(row, "workflow_id")
            found.append(StfRecord(file_id=file_id, workflow_id=workflow_id, run_key=run_key_in(row)))
            return False

        query = {"stf_filename": stf_filename}
        self.request("GET", STF_FILES, lambda _: None, query=query, read=self.rows_to(take))
        return found[0] if found else None

    def create_workflow(self, workflow: Row) -> str:
        """Create the workflow of an STF; return its id, which only `read_table` can find later."""
        return self.request("POST", WORKFLOWS, lambda row: id_in(row, "workflow_id"), body=json_text(workflow))

    def run_of_workflow(self, workflow_id: str) -> str | None:
        """The `run_id` of a workflow; None if it has none."""
        return self.request("GET", f"{WORKFLOWS}{workflow_id}/", lambda row: optional_id_in(row, "run_id"))

    def update_workflow(self, workflow_id: str, fields: Row) -> None:
        """Set *fields* of a workflow."""
        self._send("PATCH", f"{WORKFLOWS}{workflow_id}/", fields)

    def create_stage(self, stage: Row) -> str:
        """Create the stage of an STF; return its id, which only `read_table` can find later."""
        return self.request("POST", STAGES, lambda row: id_in(row, "stage_id"), body=json_text(stage))

    def update_stage(self, stage_id: str, fields: Row) -> None:
        """Set *fields* of a stage."""
        self._send("PATCH", f"{STAGES}{stage_id}/", fields)

    def read_table(self, path: str, take: Callable[[Any], bool]) -> None:
        """Pass the rows of the table at *path* to *take*, the newest first, while it returns True.

        The monitor has no filter for these tables and sends each one whole: a call to be made rarely.
        """
        self.request("GET", path, lambda _: None, query={}, slack_s=_TABLE_SLACK_S, read=self.rows_to(take))

    def log(self, row: Row) -> None:
        """Add a row to the monitor's log."""
        self._send("POST", "logs/", row)

    def _send(self, method: str, path: str, row: Row) -> None:
        self.request(method, path, lambda _: None, body=json_text(row))
