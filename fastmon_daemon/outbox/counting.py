"""Counts what was committed, in the metrics of the process. The front of the package does not import it: it is slow."""

from __future__ import annotations

from functools import cache

from fastmon_daemon.base.metrics import (
    ANNOUNCEMENTS,
    NEW,
    STF_LATENCY,
    STFS_RECEIVED,
    TF_FILES_REGISTERED,
    TRANSITION_SECONDS,
    TRANSITIONS,
)
from fastmon_daemon.outbox.models import Announced, Origin, Registered, Transition
from fastmon_daemon.outbox.store import Committed

for _origin in Origin:
    STFS_RECEIVED.labels(_origin)


_transitions, _transition_seconds = cache(TRANSITIONS.labels), cache(TRANSITION_SECONDS.labels)


def count_committed(fact: Committed) -> None:
    """Count a fact that is on disk."""
    match fact:
        case Transition():
            _transitions(fact.source or NEW, fact.dest).inc()
            _transition_seconds(fact.source or NEW, fact.dest).observe(fact.seconds)
            if fact.latency_s is not None:
                STF_LATENCY.labels(fact.dest).observe(fact.latency_s)
            if fact.origin is not None:
                STFS_RECEIVED.labels(fact.origin).inc()
        case Registered():
            TF_FILES_REGISTERED.inc()
        case Announced():
            ANNOUNCEMENTS.inc()
