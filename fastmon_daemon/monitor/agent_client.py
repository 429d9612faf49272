"""What an agent reports to the monitor about itself: name, heart-beats, subscription, stages and log.

The main job needs none of it: an `AgentClient` has connections of its own. Every call raises the errors of
`RestClient.request`. This module must not know when or why something is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmon_daemon.monitor.responses import STF_FILES, RequestRejected
from fastmon_daemon.monitor.rest_client import RestClient
from fastmon_daemon.monitor.rows import json_text, rows_of

AGENTS = "systemagents/"
WORKFLOWS = "workflows/"
STAGES = "workflow-stages/"

Row = Mapping[str, Any]


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

    def find_workflow(self, stf_filename: str) -> str | None:
        """The workflow id in the STF's row; None without an id or without a row."""
        return self.request("GET", STF_FILES, _workflow_id, query={"stf_filename": stf_filename})

    def create_workflow(self, workflow: Row) -> str:
        """Create the workflow of an STF; return its id, which cannot be looked up later."""
        return self.request("POST", WORKFLOWS, lambda row: str(row["workflow_id"]), body=json_text(workflow))

    def create_stage(self, stage: Row) -> str:
        """Create the stage of an STF; return its id, which cannot be looked up later."""
        return self.request("POST", STAGES, lambda row: str(row["stage_id"]), body=json_text(stage))

    def update_stage(self, stage_id: str, fields: Row) -> None:
        """Set *fields* of a stage."""
        self._send("PATCH", f"{STAGES}{stage_id}/", fields)

    def log(self, row: Row) -> None:
        """Add a row to the monitor's log."""
        self._send("POST", "logs/", row)

    def _send(self, method: str, path: str, row: Row) -> None:
        self.request(method, path, lambda _: None, body=json_text(row))


def _workflow_id(answer: Any) -> str | None:
    ids = (row["workflow_id"] for row in rows_of(answer))
    return next((str(each) for each in ids if each), None)
