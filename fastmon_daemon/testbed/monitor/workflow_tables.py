"""Workflows, their stages and their messages, as the monitor knows them."""

from __future__ import annotations

from fastmon_daemon.testbed.monitor.fields import (
    Choice,
    Flag,
    Integer,
    Json,
    Moment,
    Number,
    Parent,
    Resource,
    Text,
    Uuid,
    made,
)

AGENTS = ("daqsim", "data", "processing", "fastmon", "monitor")
WORKFLOW_STATUS = (
    "generated",
    *(f"{agent}_{step}" for agent in AGENTS[:4] for step in ("received", "processing", "complete")),
    "workflow_complete",
    "failed",
)
DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")

WORKFLOWS = Resource(
    "workflows",
    "STFWorkflow",
    "stf workflow",
    "workflow_id",
    (
        *made("workflow_id"),
        Text(name="filename", longest=255, required=True, unique=True),
        Uuid(name="file_id", null=True),
        Text(name="namespace", longest=100, null=True, blank=True),
        Text(name="execution_id", longest=100, null=True, blank=True),
        Text(name="run_id", longest=50, null=True, blank=True),
        Choice(name="daq_state", choices=DAQ_STATES, required=True),
        Choice(name="daq_substate", choices=DAQ_SUBSTATES, required=True),
        Moment(name="generated_time", required=True),
        Moment(name="stf_start_time", required=True),
        Moment(name="stf_end_time", required=True),
        Choice(name="current_status", choices=WORKFLOW_STATUS, default="generated"),
        Choice(name="current_agent", choices=AGENTS, default="daqsim"),
        Moment(name="completed_at", null=True),
        Moment(name="failed_at", null=True),
        Text(name="failure_reason", null=True, blank=True),
        Json(name="stf_metadata", null=True),
        *made("created_at", "updated_at"),
    ),
)

WORKFLOW_STAGES = Resource(
    "workflow-stages",
    "AgentWorkflowStage",
    "agent workflow stage",
    "stage_id",
    (
        *made("stage_id"),
        Text(name="agent_name", longest=100, required=True),
        Choice(name="agent_type", choices=AGENTS, required=True),
        Choice(name="status", choices=WORKFLOW_STATUS, default="generated"),
        Moment(name="received_at", null=True),
        Moment(name="started_at", null=True),
        Moment(name="completed_at", null=True),
        Moment(name="failed_at", null=True),
        Number(name="processing_time_seconds", null=True),
        Text(name="failure_reason", null=True, blank=True),
        Json(name="input_message", null=True),
        Json(name="output_message", null=True),
        Json(name="stage_metadata", null=True),
        *made("created_at", "updated_at"),
        Parent(name="workflow", table="workflows", by="workflow_id", required=True, indexed=True),
    ),
    together=("workflow", "agent_name", "agent_type"),
)

WORKFLOW_MESSAGES = Resource(
    "workflow-messages",
    "WorkflowMessage",
    "workflow message",
    "message_id",
    (
        *made("message_id"),
        Text(name="message_type", longest=50, required=True),
        Integer(name="request_id", null=True),
        Text(name="sender_agent", longest=100, null=True, blank=True),
        Choice(name="sender_type", choices=AGENTS, null=True),
        Text(name="recipient_agent", longest=100, null=True, blank=True),
        Choice(name="recipient_type", choices=AGENTS, null=True),
        Text(name="namespace", longest=100, null=True, blank=True),
        Text(name="execution_id", longest=100, null=True, blank=True, indexed=True),
        Text(name="run_id", longest=50, null=True, blank=True),
        Json(name="message_content", required=True),
        Json(name="message_metadata", null=True, default={}),
        *made("sent_at"),
        Moment(name="delivered_at", null=True),
        Moment(name="acknowledged_at", null=True),
        Flag(name="is_successful", null=True),
        Text(name="error_message", null=True, blank=True),
        Text(name="queue_name", longest=100, null=True, blank=True),
        Text(name="correlation_id", longest=100, null=True, blank=True),
        Parent(name="workflow", table="workflows", by="workflow_id", null=True, indexed=True),
        Parent(name="stage", table="workflow-stages", by="stage_id", null=True, indexed=True),
    ),
    filters={"execution_id": "execution_id"},
)
