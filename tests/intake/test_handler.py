"""The message handler: from a message body to the outbox in one transaction, before the acknowledgement."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loguru import logger

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base import failpoints
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.intake import handler as handler_module
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import Origin, Outbox, open_outbox
from fastmon_daemon.runs.tracked_runs import MAX_RUNS, TrackedRuns
from fastmon_daemon.statechart import load_statechart
from tests.builders import HandClock, handle, logged, named
from tests.messages.test_inbound import ready


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path) -> Outbox:
    return open_outbox(path)


@pytest.fixture
def time() -> HandClock:
    return HandClock()


@pytest.fixture
def handler(path: Path, outbox: Outbox, time: HandClock) -> MessageHandler:
    charts = (load_statechart("stf"), load_statechart("run"))
    return MessageHandler(path, "torre1", "fastmon-agent-user-9", charts, clock=time.clock())


def run_message(kind: str, **fields: object) -> str:
    return json.dumps({"msg_type": kind, "namespace": "torre1", "run_id": "100014", **fields})


def test_a_message_is_on_disk_when_handle_returns_and_a_repeated_one_changes_nothing(
    handler: MessageHandler, outbox: Outbox
) -> None:
    handle(handler, ready())
    handle(handler, ready())
    stf = named(outbox, "swf.100014.000001.stf")
    assert (stf.state, stf.origin) == ("received", Origin.MESSAGE)
    assert outbox.counters() == {"stf_ready_fresh": 1, "stf_ready_known": 1}


def test_a_malformed_message_is_rejected_with_its_reason_and_raises_nothing(
    handler: MessageHandler, outbox: Outbox
) -> None:
    handle(handler, b"\xff not JSON")
    row = outbox.rejected(limit=10)[0]
    assert row.reason.startswith("not JSON")
    assert "not JSON" in row.body


def test_a_duplicate_with_different_content_is_rejected(handler: MessageHandler, outbox: Outbox) -> None:
    handle(handler, ready(size_bytes=10))
    handle(handler, ready(size_bytes=11))
    assert named(outbox, "swf.100014.000001.stf").size_bytes == 10
    assert outbox.rejected(limit=10)[0].reason.startswith("conflict")


def test_ignored_messages_are_counted_only(handler: MessageHandler, outbox: Outbox) -> None:
    handle(handler, ready(namespace="other"))
    handle(handler, ready(msg_type="tf_file_registered"))
    handle(handler, ready())
    counters = outbox.counters()
    assert counters == {"ignored_namespace": 1, "ignored_type": 1, "stf_ready_fresh": 1}
    assert outbox.rejected_count() == 0


def test_the_execution_of_a_run_is_that_of_its_stfs(handler: MessageHandler, outbox: Outbox) -> None:
    handle(handler, ready())
    assert named(outbox, "swf.100014.000001.stf").execution_id is None
    handle(handler, run_message("start_run", execution_id="stf_datataking-user-0042"))
    assert named(outbox, "swf.100014.000001.stf").execution_id == "stf_datataking-user-0042"


def test_a_run_follows_its_chart_if_messages_are_missed_or_repeated(handler: MessageHandler, outbox: Outbox) -> None:
    states = []
    for kind in ("run_imminent", "start_run", "start_run", "pause_run", "resume_run", "end_run", "start_run"):
        handle(handler, run_message(kind, total_stf_files=12 if kind == "end_run" else None))
        row = outbox.runs.get("torre1", "100014")
        assert row is not None
        states.append(row.state)
    assert states == ["imminent", "running", "running", "paused", "running", "ended", "ended"]
    assert row.expected == 12
    assert row.ended_at is not None


@pytest.mark.field("12")
def test_a_run_ends_even_if_its_total_cannot_be_read(handler: MessageHandler, outbox: Outbox) -> None:
    with logged("WARNING") as lines:
        handle(handler, run_message("end_run", total_stf_files="many"))
    row = outbox.runs.get("torre1", "100014")
    assert row is not None
    assert (row.state, row.expected) == ("ended", None)
    assert "total_stf_files: expected an integer, got a string" in lines[0]


def test_a_run_known_by_a_stf_gen_only_is_polled(handler: MessageHandler, outbox: Outbox, time: HandClock) -> None:
    handle(handler, run_message("stf_gen", filename="swf.100014.000007.stf", sequence=7))
    run = outbox.runs.get("torre1", "100014")
    assert run is not None
    assert run.state == "running"
    assert outbox.runs.due_for_poll(time.at, nameless_only=False) == [run]
    assert outbox.unfinished() == 0


def test_a_stf_gen_of_a_known_run_changes_nothing(handler: MessageHandler, outbox: Outbox, time: HandClock) -> None:
    handle(handler, run_message("start_run"))
    before = outbox.runs.get("torre1", "100014")
    time.pass_(seconds=5)
    assert handler.prepare(run_message("stf_gen")) is None
    assert outbox.runs.get("torre1", "100014") == before


def test_a_purged_run_is_created_again_by_a_stf_gen(handler: MessageHandler, outbox: Outbox, time: HandClock) -> None:
    handle(handler, run_message("start_run"))
    with outbox.transaction():
        OperatorActions(load_statechart("stf"), handler, alone=False).perform(
            ActionRequest(action="purge", by="bob", run="100014"), outbox, time.at
        )
    assert outbox.runs.get("torre1", "100014") is None
    handle(handler, run_message("stf_gen"))
    assert outbox.runs.get("torre1", "100014") is not None


@contextmanager
def after_the_next_commit(call: Callable[[], object]) -> Iterator[None]:
    """Inside the block, run *call* once, just after a commit."""

    def hook(name: str) -> None:
        if name == "after_commit":
            failpoints.set_hook(None)
            call()

    failpoints.set_hook(hook)
    try:
        yield
    finally:
        failpoints.set_hook(None)


def test_a_run_purged_just_after_its_message_was_stored_is_created_again_by_a_stf_gen(
    handler: MessageHandler, outbox: Outbox, time: HandClock
) -> None:
    def purge() -> None:
        with outbox.transaction():
            OperatorActions(load_statechart("stf"), handler, alone=False).perform(
                ActionRequest(action="purge", by="bob", run="100014"), outbox, time.at
            )

    with after_the_next_commit(purge):
        handle(handler, run_message("start_run"))
    assert outbox.runs.get("torre1", "100014") is None
    handle(handler, run_message("stf_gen"))
    assert outbox.runs.get("torre1", "100014") is not None


def test_an_ignored_message_is_counted_once_when_two_threads_store(handler: MessageHandler, outbox: Outbox) -> None:
    def other_thread() -> None:
        thread = threading.Thread(target=lambda: [handle(handler, ready(namespace="other")), handle(handler, ready())])
        thread.start()
        thread.join()

    handle(handler, ready(msg_type="tf_file_registered"))
    with after_the_next_commit(other_thread):
        handle(handler, run_message("start_run"))
    handle(handler, run_message("pause_run"))
    counters = outbox.counters()
    assert (counters["ignored_type"], counters["ignored_namespace"]) == (1, 1)


def test_ignored_messages_are_counted_even_if_storing_fails_at_first(handler: MessageHandler, outbox: Outbox) -> None:
    def fail(name: str) -> None:
        if name == "before_commit":
            raise StorageUnavailable("the disk is full")

    handle(handler, ready(namespace="other"))
    failpoints.set_hook(fail)
    try:
        with pytest.raises(StorageUnavailable):
            handle(handler, ready())
    finally:
        failpoints.set_hook(None)
    handle(handler, ready())
    assert outbox.counters() == {"ignored_namespace": 1, "stf_ready_fresh": 1}


@pytest.mark.field("10")
def test_messages_of_other_namespaces_only_are_warned_of_once_with_their_names(
    handler: MessageHandler, time: HandClock
) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    for seconds in range(0, 240, 20):
        handle(handler, ready(namespace="torre2"))
        handle(handler, ready(namespace="x\x1b"))
        time.pass_(seconds=20)
        assert lines == [] or seconds >= 180
    logger.remove(sink)
    (line,) = lines
    assert line.startswith("WARNING no messages of namespace 'torre1': for 3 min only messages of 'torre2', 'x\\x1b': ")


def test_messages_of_other_namespaces_beside_our_own_are_not_warned_of(
    handler: MessageHandler, time: HandClock
) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING")
    handle(handler, ready(namespace="torre2"))
    handle(handler, ready())
    for _ in range(100):
        time.pass_(seconds=20)
        handle(handler, ready(namespace="torre2"))
    logger.remove(sink)
    assert lines == []


def test_a_flood_of_one_kind_is_one_log_line_an_interval_and_pushes_no_other_rejected_message_out(
    handler: MessageHandler, outbox: Outbox, time: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "STORED_PER_INTERVAL", 20)
    handler = MessageHandler(
        outbox.path, "torre1", "a", (load_statechart("stf"), load_statechart("run")), clock=time.clock()
    )
    with logged("ERROR") as lines:
        handle(handler, b"not JSON")
        for number in range(500):
            handle(handler, ready(filename="x" * (241 + number)))
        time.pass_(seconds=handler_module.LOG_INTERVAL_S + 1)
        handle(handler, ready())
    assert [line.split(":")[:2] for line in lines] == [
        ["message rejected", " not JSON"],
        ["message rejected", " filename"],
        ["messages rejected", " 499 more in 60 s"],
    ]
    assert outbox.rejected_count() == 21
    assert outbox.counters()["rejected_dropped"] == 480


def test_a_flood_of_conflicts_pushes_no_other_rejected_message_out_and_each_is_logged_with_its_stf(
    outbox: Outbox, time: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "STORED_PER_INTERVAL", 20)
    handler = MessageHandler(
        outbox.path, "torre1", "a", (load_statechart("stf"), load_statechart("run")), clock=time.clock()
    )
    handle(handler, b"not JSON")
    handle(handler, ready(size_bytes=1))
    with logged("ERROR") as lines:
        for number in range(30):
            handle(handler, ready(size_bytes=2 + number))
        time.pass_(seconds=handler_module.LOG_INTERVAL_S + 1)
        handle(handler, ready(size_bytes=99))
    assert len(lines) == 31
    assert all("rejected: duplicate with different content" in line for line in lines)
    assert outbox.rejected_count() == 1 + 20 + 1
    assert outbox.counters()["rejected_dropped"] == 10


def test_the_runs_that_somebody_invents_are_not_remembered_for_ever() -> None:
    runs = TrackedRuns()
    busy = runs.get("ns", "first")
    busy.sends_summary = True
    for number in range(3 * MAX_RUNS):
        runs.get("ns", str(number))
    assert len(runs.all()) == MAX_RUNS
    assert runs.get("ns", "first") is busy
