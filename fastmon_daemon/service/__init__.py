"""The composition root: builds everything from the settings, runs it, and stops it in reverse order.

It owns signals, the drain and the watchdog. It must not know argv.
"""

from fastmon_daemon.service.logins import broker_login, secret_reader
from fastmon_daemon.service.service import NOT_CLEAN, World, run

__all__ = ["NOT_CLEAN", "World", "broker_login", "run", "secret_reader"]
