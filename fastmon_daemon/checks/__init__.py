"""What `fastmon-daemon check` tries, each thing once and within its time, beside a daemon at work as well.

Nothing here writes to the database, to the monitor, or to a destination that somebody else listens to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.checks.broker import broker_checks
from fastmon_daemon.checks.local import local_checks
from fastmon_daemon.checks.monitor import monitor_checks
from fastmon_daemon.checks.runner import Check, CheckResult, CheckStatus, run_checks
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.service import ProcessContext, broker_parameters, monitor_client

__all__ = ["Check", "CheckResult", "CheckStatus", "all_checks", "run_checks"]


def all_checks(world: ProcessContext) -> Iterator[Check]:
    """What applies to these settings."""
    instance, kept_name = _remembered(world)
    yield from local_checks(world)
    parameters = broker_parameters(
        world.settings, world.values, world.secrets, instance or "(made at the first start)", subscribe=True
    )
    yield from broker_checks(world.settings, parameters)
    monitor = monitor_client(world.settings, world.values, world.secrets)
    try:
        yield from monitor_checks(world, monitor, world.settings.agent_name or kept_name, Clock())
    finally:
        monitor.close()


def _remembered(world: ProcessContext) -> tuple[str, str]:
    """The instance and the agent name that the database keeps; nothing where there is none, or it is unfit."""
    try:
        with closing(open_for_reading(world.database)) as reports:
            return reports.recall("instance") or "", reports.recall("agent_name") or ""
    except StorageError:
        return "", ""
