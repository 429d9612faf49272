"""The composition root: builds everything from the settings, runs it, and stops it in reverse order.

It owns signals, the drain and the watchdog. It must not know argv.
"""

from fastmon_daemon.service.credentials import broker_parameters, monitor_client, secret_reader
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
    "secret_reader",
]
