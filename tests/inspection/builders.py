"""Builders that the tests of inspection share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.inspection.endpoints import Endpoints
from fastmon_daemon.inspection.inspector import View
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import MetricsCollector
from fastmon_daemon.presence.assessment import Assessment, Assessor, ProcessState, Snapshot, assess
from fastmon_daemon.presence.periodic_worker import WorkerErrors


def all_well() -> Assessment:
    """The assessment of a daemon without problems."""
    return assess(
        Snapshot(
            now=datetime(2026, 11, 30, tzinfo=UTC),
            daemon_runs=True,
            last_sign_of_life=None,
            links={},
            failed=0,
            waiting=0,
            stuck_since=None,
            incomplete_runs=(),
            shortage=None,
            process=ProcessState(),
        )
    )


def busy() -> ProcessState:
    """The state of a process without problems, with calls in flight."""
    return ProcessState(calls={"monitor": {"in_flight": 3, "limit": 4}, "announcements": {"in_flight": 0, "limit": 4}})


def collector_for(assessor: Assessor, clock: Clock) -> MetricsCollector:
    return MetricsCollector(
        namespace="ns",
        selection_fraction=lambda: 0.1,
        database=assessor.reader.path,
        assessor=assessor,
        liveness=Liveness(clock.monotonic),
        buffered=lambda: 0,
        clock=clock,
    )


def endpoints_for(
    liveness: Liveness,
    errors: WorkerErrors,
    *,
    assess: Callable[[], Assessment | None] = all_well,
    readiness: Callable[[], Mapping[str, str] | None] = lambda: None,
    status: Callable[[], View | None] = lambda: None,
    metrics: Callable[[], bytes] = lambda: b"",
) -> Endpoints:
    return Endpoints(
        liveness=liveness, errors=errors, assess=assess, readiness=readiness, status=status, metrics=metrics
    )
