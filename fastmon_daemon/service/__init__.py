"""The composition root: makes all parts from the settings, runs them, handles signals, and drains at the end."""

from fastmon_daemon.service.clients import broker_parameters, monitor_client
from fastmon_daemon.service.daemon import EXIT_NOT_DRAINED, run
from fastmon_daemon.service.offline_reconcile import reconcile_offline
from fastmon_daemon.service.process import ProcessContext

__all__ = [
    "EXIT_NOT_DRAINED",
    "ProcessContext",
    "broker_parameters",
    "monitor_client",
    "reconcile_offline",
    "run",
]
