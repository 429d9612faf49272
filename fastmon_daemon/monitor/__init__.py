"""The REST edge: asks the monitor, and says in our own errors what its answers mean.

It must not know the outbox, the chart or what a TF is drawn from. Only here is requests imported.
"""

from fastmon_daemon.monitor.answers import OutcomeUnknown, RequestRejected, ResponseCounter
from fastmon_daemon.monitor.desk import AgentClient
from fastmon_daemon.monitor.edge import MonitorClient
from fastmon_daemon.monitor.exchange import RestClient
from fastmon_daemon.monitor.neighbours import Agent, AgentDirectory
from fastmon_daemon.monitor.rows import StfFile, TfFile
from fastmon_daemon.monitor.stf_registry import NewStfFile, StfRegistrar

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
