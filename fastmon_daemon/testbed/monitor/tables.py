"""The monitor's resources as data: their fields in the order of the answer, what is unique, which filters work.

Owns what the monitor knows of runs, files, agents, workflows, messages and logs. It must not know how it is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fastmon_daemon.testbed.monitor.fields import (
    INT64,
    Choice,
    Field,
    Flag,
    Integer,
    Json,
    Moment,
    Number,
    Parent,
    Text,
    Uuid,
)

FILE_STATUS = ("registered", "processing", "processed", "failed", "done")
AGENTS = ("daqsim", "data", "processing", "fastmon", "monitor")
WORKFLOW_STATUS = (
    "generated",
    *(f"{agent}_{step}" for agent in AGENTS[:4] for step in ("received", "processing", "complete")),
    "workflow_complete",
    "failed",
)
AGENT_TYPES = (*AGENTS[:4], "workflow_runner", "monitor", "sse_sender", "sse_receiver", "test", "other")
DAQ_STATES = ("no_beam", "beam", "run", "calib", "test")
DAQ_SUBSTATES = ("not_ready", "ready", "physics", "standby", "lumi", "eic", "epic", "daq", "calib")
LOG_LEVELS = (50, 40, 30, 20, 10, 0)


@dataclass(frozen=True)
class Resource:
    """One collection under ``/api/``. Filters that are not named here are ignored, as the monitor does."""

    path: str
    model: str
    title: str
    key: str
    fields: tuple[Field, ...]
    together: tuple[str, ...] = ()
    """Fields that make a unique set."""
    filters: Mapping[str, str] = MappingProxyType({})
    """Query name -> the field that it compares."""
    paginated: bool = False
    anonymous_writes: bool = False
    by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {each.name: each for each in self.fields})


def _made(*names: str) -> Iterable[Field]:
    """Columns that the server fills in: the key and the times."""
    return (Text(name=name, read_only=True) for name in names)


RUNS = Resource(
    "runs",
    "Run",
    "run",
    "run_id",
    (
        *_made("run_id"),
        Integer(name="run_number", required=True, unique=True),
        Moment(name="start_time", required=True),
        Moment(name="end_time", null=True),
        Json(name="run_conditions", null=True),
    ),
)

STF_FILES = Resource(
    "stf-files",
    "StfFile",
    "stf file",
    "file_id",
    (
        *_made("file_id"),
        Text(name="machine_state", longest=64, default="physics"),
        Text(name="stf_filename", longest=255, required=True, unique=True),
        Integer(name="file_size_bytes", most=INT64, null=True),
        Text(name="checksum", longest=64, null=True, blank=True),
        *_made("created_at"),
        Choice(name="status", choices=FILE_STATUS, default="registered"),
        Json(name="metadata", null=True),
        Uuid(name="workflow_id", null=True),
        Text(name="daq_state", longest=20, null=True, blank=True),
        Text(name="daq_substate", longest=20, null=True, blank=True),
        Text(name="workflow_status", longest=30, null=True, blank=True),
        Integer(name="tf_count", null=True),
        Parent(name="run", table="runs", by="run_id", required=True, indexed=True),
    ),
    filters={"stf_filename": "stf_filename", "run_number": "run", "status": "status", "workflow_id": "workflow_id"},
    paginated=True,
)

FASTMON_FILES = Resource(
    "fastmon-files",
    "FastMonFile",
    "fast mon file",
    "tf_file_id",
    (
        *_made("tf_file_id"),
        Parent(name="stf_file", table="stf-files", by="stf_filename", by_key=False, required=True, indexed=True),
        Text(name="tf_filename", longest=255, required=True, unique=True),
        Integer(name="file_size_bytes", most=INT64, null=True),
        Text(name="checksum", longest=64, null=True, blank=True),
        Choice(name="status", choices=FILE_STATUS, default="registered"),
        Json(name="metadata", null=True),
        *_made("created_at", "updated_at"),
        Integer(name="tf_count", null=True),
        Integer(name="tf_first", null=True),
        Integer(name="tf_last", null=True),
    ),
    filters={"tf_filename": "tf_filename", "stf_filename": "stf_file", "status": "status"},
    paginated=True,
)

TF_SLICES = Resource(
    "tf-slices",
    "TFSlice",
    "tf slice",
    "id",
    (
        *_made("id"),
        Parent(name="fastmon_file", table="fastmon-files", by="tf_filename", by_key=False, required=True, indexed=True),
        Integer(name="slice_id", required=True),
        Integer(name="tf_first", required=True),
        Integer(name="tf_last", required=True),
        Integer(name="tf_count", required=True),
        Integer(name="run_number", required=True),
        Text(name="status", longest=20, default="queued"),
        Integer(name="retries", default=0),
        Json(name="metadata", null=True),
        *_made("created_at", "updated_at"),
        Text(name="assigned_worker", longest=255, null=True, blank=True),
        Moment(name="assigned_at", null=True),
        Moment(name="completed_at", null=True),
    ),
    together=("fastmon_file", "slice_id"),
)

WORKFLOWS = Resource(
    "workflows",
    "STFWorkflow",
    "stf workflow",
    "workflow_id",
    (
        *_made("workflow_id"),
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
        *_made("created_at", "updated_at"),
    ),
)

WORKFLOW_STAGES = Resource(
    "workflow-stages",
    "AgentWorkflowStage",
    "agent workflow stage",
    "stage_id",
    (
        *_made("stage_id"),
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
        *_made("created_at", "updated_at"),
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
        *_made("message_id"),
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
        *_made("sent_at"),
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

SYSTEM_AGENTS = Resource(
    "systemagents",
    "SystemAgent",
    "system agent",
    "id",
    (
        *_made("id"),
        Text(name="instance_name", longest=100, required=True, unique=True),
        Choice(name="agent_type", choices=AGENT_TYPES, required=True),
        Text(name="description", blank=True, default=""),
        Choice(name="status", choices=("UNKNOWN", "OK", "WARNING", "ERROR", "EXITED"), default="UNKNOWN"),
        Moment(name="last_heartbeat", null=True),
        Text(name="agent_url", longest=200, null=True, blank=True),
        Flag(name="workflow_enabled", default=True),
        Integer(name="current_stf_count", default=0),
        Integer(name="total_stf_processed", default=0),
        Moment(name="last_stf_processed", null=True),
        Integer(name="pid", null=True),
        Text(name="hostname", longest=100, null=True, blank=True),
        Choice(
            name="operational_state", choices=("STARTING", "READY", "PROCESSING", "EXITED"), default="STARTING"
        ),
        Text(name="namespace", longest=100, null=True, blank=True),
        Json(name="metadata", null=True),
        *_made("created_at", "updated_at"),
    ),
)

SUBSCRIBERS = Resource(
    "subscribers",
    "Subscriber",
    "subscriber",
    "subscriber_id",
    (
        *_made("subscriber_id"),
        Text(name="subscriber_name", longest=255, required=True, unique=True),
        Number(name="fraction", null=True),
        Text(name="description", null=True, blank=True),
        Flag(name="is_active", default=True),
        *_made("created_at", "updated_at"),
        Choice(name="delivery_type", choices=("activemq", "sse"), default="activemq"),
        Text(name="client_ip", null=True, blank=True),
        Text(name="client_location", longest=255, blank=True, default=""),
        Moment(name="connected_at", null=True),
        Moment(name="disconnected_at", null=True),
        Moment(name="last_activity", null=True),
        Json(name="message_filters", default={}),
        Integer(name="messages_received", default=0),
        Integer(name="messages_sent", default=0),
        Integer(name="messages_dropped", default=0),
    ),
)

LOGS = Resource(
    "logs",
    "AppLog",
    "app log",
    "id",
    (
        *_made("id"),
        Text(name="app_name", longest=100, required=True),
        Text(name="instance_name", longest=100, required=True),
        Moment(name="timestamp", required=True),
        Choice(name="level", choices=LOG_LEVELS, default=0),
        Text(name="levelname", longest=50, required=True),
        Text(name="message", required=True),
        Text(name="module", longest=255, required=True),
        Text(name="funcname", longest=255, required=True),
        Integer(name="lineno", required=True),
        Integer(name="process", required=True),
        Integer(name="thread", most=INT64, required=True),
        Json(name="extra_data", null=True),
    ),
    anonymous_writes=True,
)

RESOURCES = {
    each.path: each
    for each in (
        RUNS,
        STF_FILES,
        FASTMON_FILES,
        TF_SLICES,
        WORKFLOWS,
        WORKFLOW_STAGES,
        WORKFLOW_MESSAGES,
        SYSTEM_AGENTS,
        SUBSCRIBERS,
        LOGS,
    )
}
INTEGER_KEYS = {"runs", "tf-slices", "systemagents", "subscribers", "logs"}
