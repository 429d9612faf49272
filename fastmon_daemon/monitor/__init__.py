"""The REST edge: asks the monitor, and says in our own errors what its answers mean.

It must not know the outbox, the chart or what a TF is drawn from. Only here is requests imported.
"""

from fastmon_daemon.monitor.agent_client import AgentClient
from fastmon_daemon.monitor.client import MonitorClient
from fastmon_daemon.monitor.directory import Agent, AgentDirectory
from fastmon_daemon.monitor.responses import OutcomeUnknown, RequestRejected, ResponseCounter
from fastmon_daemon.monitor.rest_client import RestClient
from fastmon_daemon.monitor.rows import StfFile, TfFile
from fastmon_daemon.monitor.stf_registrar import NewStfFile, StfRegistrar

__all__ = [
    "Agent",
    "AgentClient",
    "AgentDirectory",
    "MonitorClient",
    "NewStfFile",
    "OutcomeUnknown",
    "RequestRejected",
    "ResponseCounter",
    "RestClient",
    "StfFile",
    "StfRegistrar",
    "TfFile",
]
