"""The REST edge: calls the monitor, and turns its responses into our own errors.

Only this package imports requests. It must not know the outbox, the statecharts or how TFs are sampled.
"""

from fastmon_daemon.monitor.agent_client import STAGES, WORKFLOWS, AgentClient
from fastmon_daemon.monitor.client import MonitorClient, StfListing, StfOfAnotherRun
from fastmon_daemon.monitor.responses import OutcomeUnknown, RequestRejected, UnreadableRow
from fastmon_daemon.monitor.rows import StfFile, TfFile, id_in, optional_id_in, text_in
from fastmon_daemon.monitor.stf_registrar import StfRegistrar

__all__ = [
    "STAGES",
    "WORKFLOWS",
    "AgentClient",
    "MonitorClient",
    "OutcomeUnknown",
    "RequestRejected",
    "StfFile",
    "StfListing",
    "StfOfAnotherRun",
    "StfRegistrar",
    "TfFile",
    "UnreadableRow",
    "id_in",
    "optional_id_in",
    "text_in",
]
