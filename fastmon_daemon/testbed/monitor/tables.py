"""Agents, subscribers and logs, as the monitor knows them, and the list of all its resources."""

from __future__ import annotations

from fastmon_daemon.testbed.monitor.fields import (
    INT64,
    Choice,
    Flag,
    Integer,
    Json,
    Moment,
    Number,
    Resource,
    Text,
    made,
)
from fastmon_daemon.testbed.monitor.file_tables import FASTMON_FILES, RUNS, STF_FILES, TF_SLICES
from fastmon_daemon.testbed.monitor.workflow_tables import AGENTS, WORKFLOW_MESSAGES, WORKFLOW_STAGES, WORKFLOWS

AGENT_TYPES = (*AGENTS[:4], "workflow_runner", "monitor", "sse_sender", "sse_receiver", "test", "other")
LOG_LEVELS = (50, 40, 30, 20, 10, 0)


SYSTEM_AGENTS = Resource(
    "systemagents",
    "SystemAgent",
    "system agent",
    "id",
    (
        *made("id"),
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
        Choice(name="operational_state", choices=("STARTING", "READY", "PROCESSING", "EXITED"), default="STARTING"),
        Text(name="namespace", longest=100, null=True, blank=True),
        Json(name="metadata", null=True),
        *made("created_at", "updated_at"),
    ),
)

SUBSCRIBERS = Resource(
    "subscribers",
    "Subscriber",
    "subscriber",
    "subscriber_id",
    (
        *made("subscriber_id"),
        Text(name="subscriber_name", longest=255, required=True, unique=True),
        Number(name="fraction", null=True),
        Text(name="description", null=True, blank=True),
        Flag(name="is_active", default=True),
        *made("created_at", "updated_at"),
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
        *made("id"),
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
