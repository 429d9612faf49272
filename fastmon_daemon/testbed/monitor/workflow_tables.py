"""The resources of workflows, their stages and their messages."""

from __future__ import annotations

from fastmon_daemon.testbed.monitor.fields import (
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    FloatField,
    IntegerField,
    JSONField,
    RelatedField,
    Resource,
    UUIDField,
    read_only_fields,
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
        *read_only_fields("workflow_id"),
        CharField(name="filename", longest=255, required=True, unique=True),
        UUIDField(name="file_id", null=True),
        CharField(name="namespace", longest=100, null=True, blank=True),
        CharField(name="execution_id", longest=100, null=True, blank=True),
        CharField(name="run_id", longest=50, null=True, blank=True),
        ChoiceField(name="daq_state", choices=DAQ_STATES, required=True),
        ChoiceField(name="daq_substate", choices=DAQ_SUBSTATES, required=True),
        DateTimeField(name="generated_time", required=True),
        DateTimeField(name="stf_start_time", required=True),
        DateTimeField(name="stf_end_time", required=True),
        ChoiceField(name="current_status", choices=WORKFLOW_STATUS, default="generated"),
        ChoiceField(name="current_agent", choices=AGENTS, default="daqsim"),
        DateTimeField(name="completed_at", null=True),
        DateTimeField(name="failed_at", null=True),
        CharField(name="failure_reason", null=True, blank=True),
        JSONField(name="stf_metadata", null=True),
        *read_only_fields("created_at", "updated_at"),
    ),
)

WORKFLOW_STAGES = Resource(
    "workflow-stages",
    "AgentWorkflowStage",
    "agent workflow stage",
    "stage_id",
    (
        *read_only_fields("stage_id"),
        CharField(name="agent_name", longest=100, required=True),
        ChoiceField(name="agent_type", choices=AGENTS, required=True),
        ChoiceField(name="status", choices=WORKFLOW_STATUS, default="generated"),
        DateTimeField(name="received_at", null=True),
        DateTimeField(name="started_at", null=True),
        DateTimeField(name="completed_at", null=True),
        DateTimeField(name="failed_at", null=True),
        FloatField(name="processing_time_seconds", null=True),
        CharField(name="failure_reason", null=True, blank=True),
        JSONField(name="input_message", null=True),
        JSONField(name="output_message", null=True),
        JSONField(name="stage_metadata", null=True),
        *read_only_fields("created_at", "updated_at"),
        RelatedField(name="workflow", table="workflows", by="workflow_id", required=True, indexed=True),
    ),
    together=("workflow", "agent_name", "agent_type"),
)

WORKFLOW_MESSAGES = Resource(
    "workflow-messages",
    "WorkflowMessage",
    "workflow message",
    "message_id",
    (
        *read_only_fields("message_id"),
        CharField(name="message_type", longest=50, required=True),
        IntegerField(name="request_id", null=True),
        CharField(name="sender_agent", longest=100, null=True, blank=True),
        ChoiceField(name="sender_type", choices=AGENTS, null=True),
        CharField(name="recipient_agent", longest=100, null=True, blank=True),
        ChoiceField(name="recipient_type", choices=AGENTS, null=True),
        CharField(name="namespace", longest=100, null=True, blank=True),
        CharField(name="execution_id", longest=100, null=True, blank=True, indexed=True),
        CharField(name="run_id", longest=50, null=True, blank=True),
        JSONField(name="message_content", required=True),
        JSONField(name="message_metadata", null=True, default={}),
        *read_only_fields("sent_at"),
        DateTimeField(name="delivered_at", null=True),
        DateTimeField(name="acknowledged_at", null=True),
        BooleanField(name="is_successful", null=True),
        CharField(name="error_message", null=True, blank=True),
        CharField(name="queue_name", longest=100, null=True, blank=True),
        CharField(name="correlation_id", longest=100, null=True, blank=True),
        RelatedField(name="workflow", table="workflows", by="workflow_id", null=True, indexed=True),
        RelatedField(name="stage", table="workflow-stages", by="stage_id", null=True, indexed=True),
    ),
    filters={"execution_id": "execution_id"},
)
