"""The composition root: builds everything from the settings, runs it, and stops it in reverse order.

It owns signals, the drain and the watchdog. It must not know argv.
"""

from fastmon_daemon.service.logins import broker_login, monitor_of, secret_reader
from fastmon_daemon.service.process import World
from fastmon_daemon.service.reconciling import reconcile_alone
from fastmon_daemon.service.service import NOT_CLEAN, run

__all__ = ["NOT_CLEAN", "World", "broker_login", "monitor_of", "reconcile_alone", "run", "secret_reader"]
