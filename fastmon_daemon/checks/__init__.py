"""The checks of `fastmon-daemon check`. All are safe beside a working daemon.

No check writes to the database or to the monitor, or sends a message that others receive.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from fastmon_daemon.actions.daemon_state import DaemonState, ask_daemon
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.checks.broker import broker_checks
from fastmon_daemon.checks.local import local_checks
from fastmon_daemon.checks.monitor import monitor_checks
from fastmon_daemon.checks.runner import Check, CheckResult, CheckStatus, run_checks
from fastmon_daemon.outbox import open_for_reading, owner_of
from fastmon_daemon.service import ProcessContext, broker_parameters, monitor_client

__all__ = ["Check", "CheckResult", "CheckStatus", "all_checks", "run_checks"]


def all_checks(context: ProcessContext) -> Iterator[Check]:
    """Yield the checks that apply to the settings, in order."""
    settings, running = context.settings, _running_daemon(context)
    instance, saved_name = _instance_and_agent_name(context)
    yield from local_checks(context, running)
    parameters = broker_parameters(context, instance or "(created at the first start)", subscribe=True)
    yield from broker_checks(settings, parameters)
    monitor = monitor_client(context)
    try:
        yield from monitor_checks(context, monitor, settings.agent_name or saved_name, Clock(), running)
    finally:
        monitor.close()


def _running_daemon(context: ProcessContext) -> DaemonState | None:
    """Return what the daemon on the database says of itself; None if there is none, or if it cannot be asked."""
    try:
        return None if owner_of(context.database) is None else ask_daemon(context.database)
    except StorageError:  # the check of the database names it
        return None


def _instance_and_agent_name(context: ProcessContext) -> tuple[str, str]:
    """Return the instance id and the agent name from the database; both empty if it is missing or unusable."""
    try:
        with closing(open_for_reading(context.database)) as reports:
            return reports.recall("instance") or "", reports.recall("agent_name") or ""
    except StorageError:
        return "", ""
