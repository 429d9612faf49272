"""All checks of one daemon's settings, in the order in which a person would look.

It must not know how a check is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from fastmon_daemon.checks.at_broker import broker_checks
from fastmon_daemon.checks.at_monitor import monitor_checks
from fastmon_daemon.checks.local import local_checks
from fastmon_daemon.checks.trying import Check, World
from fastmon_daemon.clock import Clock
from fastmon_daemon.errors import StorageError
from fastmon_daemon.monitor import Monitor
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.service import broker_login, secret_reader


def checks_of(world: World) -> Iterator[Check]:
    """What applies to these settings."""
    settings, values = world.settings, world.values
    instance, kept_name = _remembered(world)
    yield from local_checks(world)
    yield from broker_checks(world, broker_login(settings, values, instance or "INSTANCE", subscribe=True))
    monitor = Monitor(
        settings.monitor_url,
        secret_reader(values, "SWF_API_TOKEN", settings.monitor_token),
        connections=1,
        ca=settings.monitor_ca,
        environ=values,
    )
    try:
        yield from monitor_checks(world, monitor, settings.agent_name or kept_name, Clock())
    finally:
        monitor.close()


def _remembered(world: World) -> tuple[str, str]:
    """The instance and the agent name that the database keeps; nothing where there is none, or it is unfit."""
    try:
        with closing(open_for_reading(world.database)) as reports:
            return reports.recall("instance") or "", reports.recall("agent_name") or ""
    except StorageError:
        return "", ""
