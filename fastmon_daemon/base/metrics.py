"""The metrics that the process counts itself, of prometheus_client; numbers from the database are in `inspection`.

Each series of a family exists at 0 from the start: one that appears with its first event has no rate for it. Families
whose labels are states get theirs by `declare_transitions`. Not imported by read-only commands: it takes 40 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from fastmon_daemon.base.errors import LinkDown, PermanentError, TransientError

disable_created_metrics()  # type: ignore[no-untyped-call]  # times of creation as series of their own double the page

REGISTRY = CollectorRegistry()
NEW = "new"
"""The source of the first transition of an STF."""

MESSAGES = Counter(
    "fastmon_messages_total",
    "Messages that arrived, and files of watched folders, by what became of them: stored a new STF; known or conflict: "
    "an STF of that name is stored; nameless: stf_ready without a filename; run: a message about a run; ignored_*: not "
    "for this daemon; malformed.",
    ["outcome"],
    registry=REGISTRY,
)
STFS_RECEIVED = Counter(
    "fastmon_stfs_received_total",
    "STFs stored, by how fastmon learned of them: message, polled (listed by the monitor), recovered (its message was "
    "missed) or file.",
    ["origin"],
    registry=REGISTRY,
)
TRANSITIONS = Counter(
    "fastmon_transitions_total",
    "Transitions of STFs, by state before and after; source new: received.",
    ["source", "dest"],
    registry=REGISTRY,
)
TRANSITION_SECONDS = Histogram(
    "fastmon_transition_duration_seconds",
    "Time that an STF was in the state source before it moved to dest; source new: from its birth to its receipt.",
    ["source", "dest"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 86400),
    registry=REGISTRY,
)
STF_LATENCY = Histogram(
    "fastmon_stf_latency_seconds",
    "Time from the receipt of an STF until no work remains for it, by its state then.",
    ["state"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 7200, 21600, 86400),
    registry=REGISTRY,
)
ATTEMPTS = Counter(
    "fastmon_attempts_total",
    "Calls of steps, by result: ok, transient (retried), permanent (the STF fails), link_down (its link is at fault), "
    "unexpected (a bug).",
    ["step", "outcome"],
    registry=REGISTRY,
)
TF_FILES_REGISTERED = Counter(
    "fastmon_tf_files_registered_total", "TF files registered at the monitor.", registry=REGISTRY
)
ANNOUNCEMENTS = Counter(
    "fastmon_announcements_total", "TF files announced, as the other side has confirmed.", registry=REGISTRY
)
MONITOR_REQUESTS = Counter(
    "fastmon_monitor_requests_total",
    "Requests to the monitor, by HTTP status; status none: no response.",
    ["method", "status"],
    registry=REGISTRY,
)
MONITOR_SECONDS = Histogram(
    "fastmon_monitor_request_duration_seconds",
    "Time from sending a request to the monitor to the end of its response, or to its failure.",
    ["method"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
    registry=REGISTRY,
)
LOG_LINES_DROPPED = Counter(
    "fastmon_log_lines_dropped_total", "Log lines that were never sent to the monitor.", registry=REGISTRY
)

_METHODS = ("GET", "POST", "PATCH")
_STATUSES = ("200", "201", "400", "401", "403", "404", "429", "500", "502", "503", "none")
_OUTCOMES = ("ok", "transient", "permanent", "link_down", "unexpected")

for _outcome in (
    *("stored", "known", "conflict", "nameless", "run", "malformed"),
    *(f"ignored_{reason}" for reason in ("type", "namespace", "echo")),
):
    MESSAGES.labels(_outcome)
for _method in _METHODS:
    MONITOR_SECONDS.labels(_method)
    for _status in _STATUSES:
        MONITOR_REQUESTS.labels(_method, _status)


# `labels` takes as long as what it is called for; there are few of each.
_attempts, _requests, _request_seconds = (
    cache(ATTEMPTS.labels),
    cache(MONITOR_REQUESTS.labels),
    cache(MONITOR_SECONDS.labels),
)


def declare_transitions(transitions: Iterable[tuple[str, str]], finalized: Iterable[str], steps: Iterable[str]) -> None:
    """Make the series of all *transitions* (source, dest), of the *finalized* states and of the *steps* with calls."""
    for source, dest in transitions:
        TRANSITIONS.labels(source, dest)
        TRANSITION_SECONDS.labels(source, dest)
    for state in finalized:
        STF_LATENCY.labels(state)
    for step in steps:
        for outcome in _OUTCOMES:
            ATTEMPTS.labels(step, outcome)


def count_attempt(step: str, answer: object) -> None:
    """Count one call of a *step*; *answer* is its result, or the exception that it raised."""
    match answer:
        case LinkDown():
            outcome = "link_down"
        case TransientError():
            outcome = "transient"
        case PermanentError():
            outcome = "permanent"
        case Exception():
            outcome = "unexpected"
        case _:
            outcome = "ok"
    _attempts(step, outcome).inc()


def count_request(method: str, status: int | None, seconds: float) -> None:
    """Count one request to the monitor; *status* None: no response."""
    known = method if method in _METHODS else "other"
    _requests(known, "none" if status is None else f"{status}" if 100 <= status <= 599 else "other").inc()
    _request_seconds(known).observe(seconds)
