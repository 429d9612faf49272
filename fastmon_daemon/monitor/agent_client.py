"""Class Desk: what an agent tells the monitor of itself: its name, heart-beats, subscription, stages and log.

None of it is needed for the main job: an `AgentClient` has a `RestClient` of its own. It must not know
when or why something is reported. Every call raises what `RestClient.post` does; `RequestRejected.absent` where the
monitor has no such endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmon_daemon.monitor.responses import MESSAGES, STF_FILES, RequestRejected
from fastmon_daemon.monitor.rest_client import RestClient
from fastmon_daemon.monitor.rows import json_text

AGENTS = "systemagents/"
WORKFLOWS = "workflows/"
STAGES = "workflow-stages/"

Row = Mapping[str, Any]


class AgentClient:
    """The calls of an agent; any thread may make them."""

    def __init__(self, exchange: RestClient) -> None:
        self._rest_client = exchange

    def close(self) -> None:
        """Close the connections."""
        self._rest_client.close()

    def next_agent_id(self) -> int:
        """A number that no other agent gets; each call uses one up."""
        return self._rest_client.post("state/next-agent-id/", lambda answer: int(answer["agent_id"]), body="{}")

    def ensure_namespace(self, name: str, owner: str) -> None:
        """Make the namespace known; one that is known keeps its owner."""
        self._rest_client.post("namespaces/ensure/", lambda _: None, body=json_text({"name": name, "owner": owner}))

    def subscribe(self, subscriber: Row) -> None:
        """Make the subscriber known; "already exists" is as good."""
        try:
            self._rest_client.post("subscribers/", lambda _: None, body=json_text(subscriber))
        except RequestRejected as exc:
            if not exc.says("subscriber_name", "already exists"):
                raise

    def heartbeat(self, agent: Row) -> int:
        """A heart-beat; gives the key of the agent's row. The monitor resets each field that *agent* leaves out."""
        return self._rest_client.post(f"{AGENTS}heartbeat/", lambda row: int(row["id"]), body=json_text(agent))

    def update_agent(self, key: int, fields: Row) -> None:
        """Set what heart-beats cannot set."""
        self._rest_client.patch(f"{AGENTS}{key}/", lambda _: None, json_text(fields))

    def find_workflow(self, stf_filename: str) -> str | None:
        """The workflow that the STF's record names; None where it names none, or there is no such record."""
        return self._rest_client.post(STF_FILES, _workflow_named, query={"stf_filename": stf_filename})

    def create_workflow(self, workflow: Row) -> str:
        """Make the workflow of an STF; gives its id, which cannot be looked up later."""
        return self._rest_client.post(WORKFLOWS, lambda row: str(row["workflow_id"]), body=json_text(workflow))

    def create_stage(self, stage: Row) -> str:
        """Make the stage of an STF; gives its id, which cannot be looked up later."""
        return self._rest_client.post(STAGES, lambda row: str(row["stage_id"]), body=json_text(stage))

    def update_stage(self, stage_id: str, fields: Row) -> None:
        """Set *fields* of a stage."""
        self._rest_client.patch(f"{STAGES}{stage_id}/", lambda _: None, json_text(fields))

    def announce(self, body: str, _event_id: str) -> None:
        """Hand the JSON text *body* to the monitor as a message."""
        self._rest_client.post(MESSAGES, lambda _: None, body=body)

    def log(self, row: Row) -> None:
        """Add a row to the monitor's log."""
        self._rest_client.post("logs/", lambda _: None, body=json_text(row))


def _workflow_named(rows: Any) -> str | None:
    found = rows["results"] if isinstance(rows, dict) else rows
    ids = (row["workflow_id"] for row in found)
    return next((str(each) for each in ids if each), None)
