"""Builders that the tests of presence share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.links import LINK_OF_STEP
from fastmon_daemon.monitor import AgentClient
from fastmon_daemon.presence.assessment import AssessmentRule, Assessor, ProcessState
from fastmon_daemon.presence.health import HealthChecker
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.presence.stuck import StuckRule
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import FakeTestbed

TOKEN = "f" * 40
STUCK_RULE = StuckRule(chart=load_statechart("stf"), links=LINK_OF_STEP, stuck_after_s=60)
RULE = AssessmentRule(stuck=STUCK_RULE, run_chart=load_statechart("run"), min_free_mb=0, reconciles=True)


Client = TypeVar("Client", bound=AgentClient)


def agent_client_for(monitor: MonitorThread, kind: type[Client] = AgentClient) -> Client:  # type: ignore[assignment]
    return kind(monitor.url, lambda: TOKEN, connections=1, timeout_s=(5, 5))


def assessor_for(testbed: FakeTestbed, errors: WorkerErrors | None = None, **state: Any) -> Assessor:
    """Return the assessor of a daemon with these *errors* and this *state* of its process."""
    known = errors or WorkerErrors()

    def process() -> ProcessState:
        return ProcessState(worker_errors=known.now(), **state)

    return Assessor(testbed.folder / "outbox.db", RULE, process, testbed.time.clock())


def checker_for(
    testbed: FakeTestbed,
    *,
    errors: WorkerErrors | None = None,
    connected: Callable[[], bool] = lambda: True,
    clock: Clock | None = None,
) -> HealthChecker:
    return HealthChecker(
        database=testbed.folder / "outbox.db",
        assessor=assessor_for(testbed, errors),
        connected=connected,
        clock=clock or testbed.time.clock(),
    )
