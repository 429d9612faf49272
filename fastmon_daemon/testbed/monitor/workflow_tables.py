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
SLICE_STEPS = ("created", "queued", "processing", "completed", "failed")
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
    ordering="generated_time",
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
    ordering="workflow__generated_time",
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
    ordering="sent_at",
)

WORKFLOW_DEFINITIONS = Resource(
    "workflow-definitions",
    "WorkflowDefinition",
    "workflow definition",
    "id",
    (
        *read_only_fields("id"),
        CharField(name="workflow_name", longest=200, required=True),
        CharField(name="version", longest=50, required=True),
        CharField(name="workflow_type", longest=100, required=True),
        CharField(name="definition", longest=5000, required=True),
        JSONField(name="parameter_values", default={}),
        CharField(name="created_by", longest=100, required=True),
        *read_only_fields("created_at", "updated_at"),
    ),
    together=("workflow_name", "version"),
)

WORKFLOW_EXECUTIONS = Resource(
    "workflow-executions",
    "WorkflowExecution",
    "workflow execution",
    "execution_id",
    (
        CharField(name="execution_id", longest=100, required=True, unique=True),
        CharField(name="namespace", longest=100, null=True, blank=True),
        JSONField(name="parameter_values", required=True),
        JSONField(name="performance_metrics", null=True),
        CharField(name="status", longest=50, default="pending"),
        DateTimeField(name="start_time", required=True),
        DateTimeField(name="end_time", null=True),
        CharField(name="executed_by", longest=100, required=True),
        RelatedField(
            name="workflow_definition",
            table="workflow-definitions",
            by="id",
            integer_key=True,
            required=True,
            indexed=True,
        ),
    ),
    ordering="start_time",
)

RUN_STATES = Resource(
    "run-states",
    "RunState",
    "run state",
    "run_number",
    (
        IntegerField(name="run_number", required=True, unique=True),
        CharField(name="phase", longest=20, required=True),
        CharField(name="state", longest=20, required=True),
        CharField(name="substate", longest=20, null=True, blank=True),
        IntegerField(name="target_worker_count", required=True),
        IntegerField(name="active_worker_count", default=0),
        IntegerField(name="stf_samples_received", default=0),
        *(IntegerField(name=f"slices_{step}", default=0) for step in SLICE_STEPS),
        DateTimeField(name="state_changed_at", required=True),
        *read_only_fields("updated_at"),
        JSONField(name="metadata", null=True),
    ),
)
