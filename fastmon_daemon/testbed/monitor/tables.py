"""The resources of agents, subscribers and logs, and the list of all resources."""

from __future__ import annotations

from fastmon_daemon.testbed.monitor.fields import (
    INT64,
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    FloatField,
    IntegerField,
    JSONField,
    Resource,
    read_only_fields,
)
from fastmon_daemon.testbed.monitor.file_tables import FASTMON_FILES, RUNS, STF_FILES, TF_SLICES
from fastmon_daemon.testbed.monitor.workflow_tables import (
    AGENTS,
    RUN_STATES,
    WORKFLOW_DEFINITIONS,
    WORKFLOW_EXECUTIONS,
    WORKFLOW_MESSAGES,
    WORKFLOW_STAGES,
    WORKFLOWS,
)

AGENT_TYPES = (*AGENTS[:4], "workflow_runner", "monitor", "sse_sender", "sse_receiver", "test", "other")
LOG_LEVELS = (50, 40, 30, 20, 10, 0)

SYSTEM_AGENTS = Resource(
    "systemagents",
    "SystemAgent",
    "system agent",
    "id",
    (
        *read_only_fields("id"),
        CharField(name="instance_name", longest=100, required=True, unique=True),
        ChoiceField(name="agent_type", choices=AGENT_TYPES, required=True),
        CharField(name="description", blank=True, default=""),
        ChoiceField(name="status", choices=("UNKNOWN", "OK", "WARNING", "ERROR", "EXITED"), default="UNKNOWN"),
        DateTimeField(name="last_heartbeat", null=True),
        CharField(name="agent_url", longest=200, null=True, blank=True),
        BooleanField(name="workflow_enabled", default=True),
        IntegerField(name="current_stf_count", default=0),
        IntegerField(name="total_stf_processed", default=0),
        DateTimeField(name="last_stf_processed", null=True),
        IntegerField(name="pid", null=True),
        CharField(name="hostname", longest=100, null=True, blank=True),
        ChoiceField(
            name="operational_state", choices=("STARTING", "READY", "PROCESSING", "EXITED"), default="STARTING"
        ),
        CharField(name="namespace", longest=100, null=True, blank=True),
        JSONField(name="metadata", null=True),
        *read_only_fields("created_at", "updated_at"),
    ),
)

SUBSCRIBERS = Resource(
    "subscribers",
    "Subscriber",
    "subscriber",
    "subscriber_id",
    (
        *read_only_fields("subscriber_id"),
        CharField(name="subscriber_name", longest=255, required=True, unique=True),
        FloatField(name="fraction", null=True),
        CharField(name="description", null=True, blank=True),
        BooleanField(name="is_active", default=True),
        *read_only_fields("created_at", "updated_at"),
        ChoiceField(name="delivery_type", choices=("activemq", "sse"), default="activemq"),
        CharField(name="client_ip", null=True, blank=True),
        CharField(name="client_location", longest=255, blank=True, default=""),
        DateTimeField(name="connected_at", null=True),
        DateTimeField(name="disconnected_at", null=True),
        DateTimeField(name="last_activity", null=True),
        JSONField(name="message_filters", default={}),
        IntegerField(name="messages_received", default=0),
        IntegerField(name="messages_sent", default=0),
        IntegerField(name="messages_dropped", default=0),
    ),
)

LOGS = Resource(
    "logs",
    "AppLog",
    "app log",
    "id",
    (
        *read_only_fields("id"),
        CharField(name="app_name", longest=100, required=True),
        CharField(name="instance_name", longest=100, required=True),
        DateTimeField(name="timestamp", required=True),
        ChoiceField(name="level", choices=LOG_LEVELS, default=0),
        CharField(name="levelname", longest=50, required=True),
        CharField(name="message", required=True),
        CharField(name="module", longest=255, required=True),
        CharField(name="funcname", longest=255, required=True),
        IntegerField(name="lineno", required=True),
        IntegerField(name="process", required=True),
        IntegerField(name="thread", most=INT64, required=True),
        JSONField(name="extra_data", null=True),
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
        WORKFLOW_DEFINITIONS,
        WORKFLOW_EXECUTIONS,
        RUN_STATES,
        SYSTEM_AGENTS,
        SUBSCRIBERS,
        LOGS,
    )
}
INTEGER_KEYS = {"runs", "tf-slices", "systemagents", "subscribers", "logs", "workflow-definitions", "run-states"}
TEXT_KEYS = {"workflow-executions"}
