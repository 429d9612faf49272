"""Workflows, their stages and executions, and the states of runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

Row = dict[str, Any]
STAGE_KEYS = {
    "stage_id", "agent_name", "agent_type", "status", "received_at", "started_at", "completed_at", "failed_at",
    "processing_time_seconds", "failure_reason", "input_message", "output_message", "stage_metadata", "created_at",
    "updated_at", "workflow",
}  # fmt: skip
REQUIRED = ["This field is required."]
NOON = "2026-11-21T12:00:00-05:00"
FILE_ID = "306f19e9-4986-4bdc-946f-8d061d992635"


def new_workflow(name: str, **more: Any) -> Row:
    times = dict.fromkeys(("generated_time", "stf_start_time", "stf_end_time"), NOON)
    return {"filename": f"{name}.stf", "daq_state": "run", "daq_substate": "physics", **times, **more}


@pytest.fixture
def three_workflows(api, name) -> Iterator[list[Row]]:
    """Workflows, the newest first, which were created in another order."""
    rows = {
        year: api.create("workflows/", new_workflow(f"{name}-{year}", generated_time=f"{year}-11-21T12:00:00"))
        for year in (2025, 2027, 2026)
    }
    yield [rows[year] for year in (2027, 2026, 2025)]
    for row in rows.values():
        api.call("DELETE", f"workflows/{row['workflow_id']}/")


@pytest.fixture
def execution(api, name) -> Iterator[Row]:
    definitions = api.get("workflow-definitions/").json()
    if not definitions:
        texts = dict.fromkeys(("workflow_name", "version", "workflow_type", "definition", "created_by"), "contract")
        definitions = [api.create("workflow-definitions/", texts)]
    body = {"execution_id": name, "parameter_values": {"a": {"b": 1}}, "start_time": NOON, "executed_by": "contract"}
    body |= {"workflow_definition": definitions[0]["id"], "namespace": "contract", "status": "running"}
    yield api.create("workflow-executions/", body)
    api.call("DELETE", f"workflow-executions/{name}/")


def test_a_workflow_is_created_once_and_cannot_be_looked_up_by_name(api, workflow):
    again = api.post("workflows/", workflow)
    assert again.status_code == 400
    assert again.json() == {"filename": ["stf workflow with this filename already exists."]}
    assert api.get(f"workflows/{workflow['workflow_id']}/").json() == workflow
    for query in ("filename=there-is-none", "limit=1"):
        found = api.get(f"workflows/?{query}").json()
        assert workflow["workflow_id"] in [row["workflow_id"] for row in found]


def test_a_workflow_needs_states_and_times(api, name):
    rejected = api.post("workflows/", {"filename": name})
    needed = ("daq_state", "daq_substate", "generated_time", "stf_start_time", "stf_end_time")
    assert (rejected.status_code, rejected.json()) == (400, dict.fromkeys(needed, REQUIRED))
    times = dict.fromkeys(needed[2:], "2026-11-21T12:00:00")
    old_style = api.post("workflows/", {"filename": name, "daq_state": "physics", "daq_substate": "physics", **times})
    assert old_style.json() == {"daq_state": ['"physics" is not a valid choice.']}


def test_a_stage_is_created_once_per_agent_and_accepts_any_order_of_status(api, workflow, name):
    body = {"workflow": workflow["workflow_id"], "agent_name": name, "agent_type": "fastmon"}
    stage = api.create("workflow-stages/", {**body, "status": "fastmon_received", "received_at": "2026-11-21T12:00:00"})
    assert stage.keys() == STAGE_KEYS
    again = api.post("workflow-stages/", body)
    assert again.status_code == 400
    unique = "The fields workflow, agent_name, agent_type must make a unique set."
    assert again.json() == {"non_field_errors": [unique]}
    path = f"workflow-stages/{stage['stage_id']}/"
    for status in ("fastmon_complete", "fastmon_processing", "failed"):
        assert api.patch(path, {"status": status}).json()["status"] == status
    assert api.patch(path, {"status": "complete"}).json() == {"status": ['"complete" is not a valid choice.']}


def test_an_invalid_stage_is_rejected_by_field(api, workflow, name):
    body = {"workflow": workflow["workflow_id"], "agent_name": name, "agent_type": "fastmon"}
    unknown = str(uuid4())
    for change, errors in (
        ({"workflow": unknown}, {"workflow": [f'Invalid pk "{unknown}" - object does not exist.']}),
        ({"status": "registered"}, {"status": ['"registered" is not a valid choice.']}),
        ({"agent_type": "FASTMON"}, {"agent_type": ['"FASTMON" is not a valid choice.']}),
        ({"agent_name": "a" * 101}, {"agent_name": ["Ensure this field has no more than 100 characters."]}),
    ):
        rejected = api.post("workflow-stages/", body | change)
        assert (rejected.status_code, rejected.json()) == (400, errors)
    assert api.post("workflow-stages/", {}).json() == dict.fromkeys(("agent_name", "agent_type", "workflow"), REQUIRED)


def test_the_filters_of_stages_are_ignored(api, workflow, name):
    stage = api.create(
        "workflow-stages/", {"workflow": workflow["workflow_id"], "agent_name": name, "agent_type": "fastmon"}
    )
    found = api.get(f"workflow-stages/?workflow={uuid4()}&agent_name=there-is-none").json()
    assert stage["stage_id"] in [row["stage_id"] for row in found]


def test_an_unknown_stage_is_not_patched(api):
    missing = api.patch(f"workflow-stages/{uuid4()}/", {"status": "failed"})
    assert missing.status_code == 404
    assert missing.json() == {"detail": "No AgentWorkflowStage matches the given query."}


def test_a_workflow_keeps_what_an_agent_knows_of_it(api, workflow):
    path = f"workflows/{workflow['workflow_id']}/"
    assert (workflow["current_status"], workflow["current_agent"]) == ("generated", "daqsim")
    known = {"current_status": "fastmon_received", "current_agent": "fastmon", "namespace": "ns", "run_id": "100075",
             "execution_id": "known-to-nobody", "file_id": FILE_ID}  # fmt: skip
    row = api.patch(path, known).json()
    assert row == workflow | known | {"updated_at": row["updated_at"]}
    for change in (
        {"current_status": "fastmon_complete", "completed_at": NOON},
        {"current_status": "failed", "failed_at": NOON, "failure_reason": "the disk burns"},
    ):
        before, row = row, api.patch(path, change).json()
        assert row == before | change | {"updated_at": row["updated_at"]}
    assert api.get(path).json() == row


def test_a_workflow_may_be_complete_when_it_is_created(api, name):
    known = {"current_status": "fastmon_complete", "current_agent": "fastmon", "namespace": "ns", "run_id": "100075",
             "execution_id": "known-to-nobody", "file_id": None, "stf_metadata": {"a": 1}}  # fmt: skip
    row = api.create("workflows/", new_workflow(name, **known))
    assert row == row | known
    api.call("DELETE", f"workflows/{row['workflow_id']}/")


def test_a_workflow_ignores_unknown_times_and_rejects_unknown_statuses(api, workflow):
    path = f"workflows/{workflow['workflow_id']}/"
    row = api.patch(path, {"completed_time": NOON, "failed_time": NOON}).json()
    assert row == workflow | {"updated_at": row["updated_at"]}
    for change, errors in (
        ({"current_status": "complete"}, {"current_status": ['"complete" is not a valid choice.']}),
        ({"current_agent": "FASTMON"}, {"current_agent": ['"FASTMON" is not a valid choice.']}),
        ({"file_id": "no-id"}, {"file_id": ["Must be a valid UUID."]}),
        ({"run_id": "1" * 51}, {"run_id": ["Ensure this field has no more than 50 characters."]}),
    ):
        rejected = api.patch(path, change)
        assert (rejected.status_code, rejected.json()) == (400, errors)


def test_workflows_are_listed_by_the_time_of_their_stf_newest_first(api, three_workflows):
    ids = [row["workflow_id"] for row in three_workflows]
    for query in ("", "?limit=1&offset=1", f"?file_id={FILE_ID}"):
        listed = [row["workflow_id"] for row in api.get(f"workflows/{query}").json()]
        assert [each for each in listed if each in ids] == ids


def test_stages_are_listed_by_the_time_of_their_stf_newest_first(api, three_workflows):
    middle, first, last = (three_workflows[place]["workflow_id"] for place in (1, 0, 2))
    made = [
        api.create("workflow-stages/", {"workflow": workflow, "agent_name": agent, "agent_type": "fastmon"})["stage_id"]
        for workflow, agent in ((middle, "a"), (last, "a"), (first, "b"), (first, "a"))
    ]
    expected = [made[place] for place in (2, 3, 0, 1)]
    assert [row["stage_id"] for row in api.get("workflow-stages/").json() if row["stage_id"] in made] == expected


def test_a_stage_is_created_and_patched_by_state(api, workflow, name):
    body = {"workflow": workflow["workflow_id"], "agent_name": name, "agent_type": "fastmon"}
    row = api.create("workflow-stages/", {**body, "status": "fastmon_received", "received_at": NOON})
    path = f"workflow-stages/{row['stage_id']}/"
    done = {"status": "fastmon_complete", "completed_at": NOON, "processing_time_seconds": 1.25}
    transitions = {"state": "completed", "transitions": [{"to": "completed", "at": NOON}]}
    for change in (
        *({"status": "fastmon_processing", "started_at": NOON, "stage_metadata": {"state": state}}
          for state in ("sampled", "tf_registered", "notified")),
        {**done, "output_message": {"m": 2}, "stage_metadata": transitions},
    ):  # fmt: skip
        before, row = row, api.patch(path, change).json()
        assert row == before | change | {"updated_at": row["updated_at"]}
    assert api.get(path).json() == row


def test_an_execution_is_created_once_and_found_by_its_id(api, execution):
    path = f"workflow-executions/{execution['execution_id']}/"
    again = api.post("workflow-executions/", execution)
    assert again.status_code == 400
    assert again.json() == {"execution_id": ["workflow execution with this execution id already exists."]}
    assert api.get(path).json() == execution
    change = {"status": "completed", "end_time": NOON}
    assert api.patch(path, change).json() == execution | change
    assert execution["execution_id"] in [row["execution_id"] for row in api.get("workflow-executions/").json()]


def test_an_execution_needs_a_definition_and_a_token(api, anonymous, execution, name):
    rejected = api.post("workflow-executions/", {"execution_id": f"{name}-2"})
    needed = ("parameter_values", "start_time", "executed_by", "workflow_definition")
    assert (rejected.status_code, rejected.json()) == (400, dict.fromkeys(needed, REQUIRED))
    unknown = api.post("workflow-executions/", execution | {"execution_id": f"{name}-2", "workflow_definition": 10**9})
    assert unknown.status_code == 400
    assert unknown.json() == {"workflow_definition": ['Invalid pk "1000000000" - object does not exist.']}
    assert anonymous.post("workflow-executions/", execution).status_code == 403


def test_an_unknown_execution_is_not_found(api, name):
    missing = api.get(f"workflow-executions/{name}/")
    assert missing.status_code == 404
    assert missing.json() == {"detail": "No WorkflowExecution matches the given query."}


def test_the_state_of_an_unknown_run_is_not_found(api):
    missing = api.get("run-states/1999999999/")
    assert (missing.status_code, missing.json()) == (404, {"detail": "No RunState matches the given query."})
    assert isinstance(api.get("run-states/").json(), list)
