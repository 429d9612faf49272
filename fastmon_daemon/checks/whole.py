"""All checks of one daemon's settings, in the order in which a person would look.

It must not know how a check is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from fastmon_daemon.checks.at_broker import broker_checks
from fastmon_daemon.checks.at_monitor import monitor_checks
from fastmon_daemon.checks.local import local_checks
from fastmon_daemon.checks.trying import Check, Subject
from fastmon_daemon.clock import Clock
from fastmon_daemon.errors import StorageError
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.service import broker_login, monitor_of


def checks_of(subject: Subject) -> Iterator[Check]:
    """What applies to these settings."""
    settings, values = subject.settings, subject.values
    instance, kept_name = _remembered(subject)
    yield from local_checks(subject)
    login = broker_login(settings, values, subject.secrets, instance or "(made at the first start)", subscribe=True)
    yield from broker_checks(subject, login)
    monitor = monitor_of(settings, values, subject.secrets)
    try:
        yield from monitor_checks(subject, monitor, settings.agent_name or kept_name, Clock())
    finally:
        monitor.close()


def _remembered(subject: Subject) -> tuple[str, str]:
    """The instance and the agent name that the database keeps; nothing where there is none, or it is unfit."""
    try:
        with closing(open_for_reading(subject.database)) as reports:
            return reports.recall("instance") or "", reports.recall("agent_name") or ""
    except StorageError:
        return "", ""
