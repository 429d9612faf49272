"""The counters of the process: each event is counted once, under a label that was known before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from fastmon_daemon.base.errors import (
    LinkBlocked,
    LinkDown,
    ParentNotRegistered,
    PermanentError,
    StorageUnavailable,
    TransientError,
)
from fastmon_daemon.base.metrics import REGISTRY, count_attempt, count_request
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.statechart import load_statechart
from tests.builders import handle
from tests.messages.test_inbound import ready


def values(registry: CollectorRegistry = REGISTRY) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith(("_total", "_count"))
    }


def counted(event: Callable[[], object]) -> dict[tuple[str, ...], float]:
    """What *event* adds."""
    before = values()
    event()
    after = values()
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("a result", "ok"),
        (None, "ok"),
        (LinkDown("x"), "link_down"),
        (LinkBlocked("x"), "link_down"),
        (TransientError("x"), "transient"),
        (ParentNotRegistered("x"), "transient"),
        (PermanentError("x"), "permanent"),
        (KeyError("x"), "unexpected"),
    ],
)
def test_an_attempt_is_counted_by_what_its_answer_means(answer: object, outcome: str) -> None:
    found = counted(lambda: count_attempt("register_tfs", answer))
    assert found == {("fastmon_attempts_total", outcome, "register_tfs"): 1}


@pytest.mark.parametrize(
    ("method", "status", "label"),
    [("GET", 200, "200"), ("POST", 599, "599"), ("GET", None, "none"), ("GET", 12345, "other"), ("GET", 99, "other")],
)
def test_a_request_is_counted_under_a_bounded_label(method: str, status: int | None, label: str) -> None:
    assert counted(lambda: count_request(method, status, 0.1)) == {
        ("fastmon_monitor_requests_total", method, label): 1,
        ("fastmon_monitor_request_duration_seconds_count", method): 1,
    }
    assert ("fastmon_monitor_requests_total", "other", label) in counted(lambda: count_request("BREW", status, 0.1))


def run_message(kind: str, **fields: object) -> str:
    return json.dumps({"msg_type": kind, "namespace": "torre1", "run_id": "100014", **fields})


BODIES = {
    "stored": ready(size_bytes=10),
    "known": ready(size_bytes=10),
    "conflict": ready(size_bytes=11),
    "run": run_message("start_run"),
    "nameless": ready(filename=None),
    "malformed": "not JSON",
    "ignored_type": json.dumps({"msg_type": "weather"}),
    "ignored_namespace": run_message("start_run").replace("torre1", "another"),
    "ignored_echo": ready(sender="fastmon-agent-user-9"),
}  # fmt: skip


def test_each_message_is_counted_once_by_what_became_of_it(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    charts = (load_statechart("stf"), load_statechart("run"))
    handler = MessageHandler(outbox.path, "torre1", "fastmon-agent-user-9", charts)
    found = {}
    for outcome, body in BODIES.items():
        added = counted(lambda body=body: handle(handler, body))
        found[outcome] = {key[1]: value for key, value in added.items() if key[0] == "fastmon_messages_total"}
    assert found == {outcome: {outcome: 1} for outcome in BODIES}


def test_a_message_that_cannot_be_stored_is_counted_when_it_is(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path / "outbox.db")
    charts = (load_statechart("stf"), load_statechart("run"))
    full = True

    def refuse() -> None:
        if full:
            raise StorageUnavailable("disk full")

    handler = MessageHandler(outbox.path, "torre1", "agent", charts, refuse_if_short=refuse)

    def deliver() -> None:
        with pytest.raises(StorageUnavailable):
            handle(handler, ready())

    assert counted(deliver) == {}
    full = False
    assert counted(lambda: handle(handler, ready())) == {
        ("fastmon_messages_total", "stored"): 1,
        ("fastmon_stfs_received_total", "message"): 1,
        ("fastmon_transitions_total", "received", "new"): 1,
        ("fastmon_transition_duration_seconds_count", "received", "new"): 1,
    }
