"""The engine, ticked by the test against fake links: no threads, no sleeping."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from transitions.core import Event

from fastmon_daemon.base.errors import FastmonError, LinkDown, ParentNotRegistered, PermanentError, TransientError
from fastmon_daemon.engine import Inbox
from fastmon_daemon.engine.engine import TICK_S
from fastmon_daemon.engine.steps import StepOutcome, tf_file_registered
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import DueQuery, NewStf, Origin, Outbox
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.statechart.machine import MachineError, StatechartError
from tests.builders import START, FakeMonitor, FakeTestbed, Slow, logged, named, query, settle
from tests.engine.model_world import power_cut

STATES = ["received", "sampled", "tf_registered", "notified", "completed"]


def history(outbox: Outbox, name: str) -> list[str]:
    return [row.dest for row in outbox.history(named(outbox, name).id)]


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """(source, trigger, dest) of each trigger that is fired on a machine of the package `transitions`."""
    triggers: list[tuple[str, str, str]] = []
    original = Event.trigger

    def trigger(event: Event, model: Any, *args: Any, **kwargs: Any) -> bool:
        source = model.state
        result = original(event, model, *args, **kwargs)
        triggers.append((source, event.name, model.state))
        return result

    monkeypatch.setattr(Event, "trigger", trigger)
    return triggers


@pytest.mark.field("0d")
def test_each_transition_of_an_stf_is_a_trigger_fired_on_the_machine(
    testbed: FakeTestbed, fired: list[tuple[str, str, str]]
) -> None:
    outbox = testbed.outbox()
    testbed.monitor.trouble["swf.100014.000002.stf"] = PermanentError("monitor said 400")
    names = [testbed.receive(outbox, n) for n in (1, 2)]
    settle(testbed.engine(outbox))
    rows = [row for name in names for row in outbox.history(named(outbox, name).id)]
    assert sorted(fired) == sorted((row.source, row.trigger, row.dest) for row in rows if row.trigger)
    assert len(fired) == 6


def test_an_stf_is_completed_and_each_transition_is_in_its_history_once(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = testbed.receive(outbox, size_bytes=2_000_000_000)
    engine = testbed.engine(outbox)
    settle(engine)
    stf = named(outbox, name)
    assert stf.state == "completed"
    assert history(outbox, name) == STATES
    assert len(testbed.monitor.rows) == 7
    assert len(set(testbed.announced)) == len(testbed.announced) == 7
    for tf in stf.tfs:
        row = testbed.monitor.rows[tf.filename]
        assert (tf.first, tf.last, tf.size_bytes, tf.monitor_id) == (
            row.tf_first, row.tf_last, row.file_size_bytes, row.tf_file_id,
        )  # fmt: skip


def test_a_power_cut_at_any_failpoint_loses_nothing(tmp_path: Path) -> None:
    cuts: list[str] = []
    for nth in count(1):
        folder = tmp_path / str(nth)
        testbed = FakeTestbed(folder)
        with closing(testbed.outbox()) as outbox:
            cut = power_cut(nth, lambda: [testbed.receive(outbox), settle(testbed.engine(outbox))])  # noqa: B023
        with closing(testbed.outbox()) as outbox:
            name = testbed.receive(outbox)  # a message that was not acknowledged is delivered again
            settle(testbed.engine(outbox))
            assert named(outbox, name).state == "completed"
            assert history(outbox, name) == STATES
            assert len(testbed.monitor.rows) == 7
            announced = Counter(testbed.announced)
            assert len(announced) == 7
            assert sum(announced.values()) - 7 <= 4  # at most the calls in flight: one per worker
        if cut is None:
            break
        cuts.append(cut)
    assert {"before_commit", "after_commit", "before_call", "after_call"} == set(cuts)
    assert len(cuts) >= 2 * 14  # 7 registrations and 7 announcements, before and after each


def test_a_monitor_outage_of_any_length_counts_no_attempt(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    testbed.monitor.down = True
    names = [testbed.receive(outbox, n) for n in range(1, 6)]
    for _ in range(20):
        engine.tick(0)
        testbed.time.pass_(minutes=10)
    assert {named(outbox, name).state for name in names} == {"sampled"}
    assert {named(outbox, name).attempts for name in names} == {0}
    assert [outage.link for outage in outbox.outages.open()] == ["monitor"]
    testbed.monitor.down = False
    testbed.time.pass_(seconds=5)
    settle(engine)
    assert {named(outbox, name).state for name in names} == {"completed"}
    assert outbox.outages.open() == []


def test_while_the_broker_is_down_stfs_are_registered_and_wait(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    testbed.broker_is(engine, up=False)
    name = testbed.receive(outbox)
    settle(engine)
    assert named(outbox, name).state == "tf_registered"
    testbed.broker_is(engine, up=True)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_an_outage_survives_a_restart_and_is_probed_again(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    testbed.monitor.down = True
    name = testbed.receive(outbox)
    settle(testbed.engine(outbox))
    assert outbox.outages.open()
    testbed.monitor.down = False
    again = testbed.engine(outbox)
    assert not again.breakers.allows_calls("monitor")
    settle(again)
    assert named(outbox, name).state == "completed"


def test_an_stf_that_is_not_registered_costs_one_call_a_try_and_fails_after_its_budget(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = ParentNotRegistered("Object with stf_filename does not exist.")
    engine.tick(0)
    engine.tick(0)
    assert sum(testbed.monitor.posts.values()) == 1
    assert named(outbox, name).attempts == 1
    other = testbed.receive(outbox, 2)
    for _ in range(200):
        settle(engine)
        testbed.time.pass_(seconds=61)
    stf = named(outbox, name)
    assert stf.state == "failed"
    assert stf.last_error is not None
    assert stf.last_error.startswith("stf_not_registered: ")
    assert named(outbox, other).state == "completed"


def test_tf_files_are_registered_once_their_stf_is(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = ParentNotRegistered("not yet")
    settle(engine)
    del testbed.monitor.trouble[name]
    testbed.time.pass_(seconds=2)
    settle(engine)
    assert named(outbox, name).state == "completed"


def test_a_permanent_error_fails_the_stf_at_once_with_the_reason(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = PermanentError("monitor said 400: too big")
    settle(testbed.engine(outbox))
    stf = named(outbox, name)
    assert (stf.state, stf.last_error, stf.due_at) == ("failed", "monitor said 400: too big", None)


def test_an_unexpected_error_fails_only_its_stf(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    failing, well = testbed.receive(outbox, 1), testbed.receive(outbox, 2)
    testbed.monitor.trouble[failing] = ZeroDivisionError("a bug")  # type: ignore[assignment]
    settle(testbed.engine(outbox))
    assert named(outbox, failing).last_error == "ZeroDivisionError: a bug"
    assert named(outbox, well).state == "completed"


def test_tf_files_of_another_writer_are_adopted_and_noted_in_the_history(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    settle(testbed.engine(outbox, links={"register_tfs": "monitor", "notify_clients": "announcements"}))
    twin = FakeTestbed(testbed.folder / "twin", monitor=testbed.monitor)
    for tf, row in list(testbed.monitor.rows.items()):
        testbed.monitor.rows[tf] = type(row)(
            **{**{f: getattr(row, f) for f in row.__slots__}, "tf_first": 3, "tf_last": 9}
        )
    other = twin.outbox()
    twin.receive(other)
    settle(twin.engine(other))
    stf = named(other, name)
    assert {(tf.first, tf.last, tf.adopted) for tf in stf.tfs} == {(3, 9, "another range")}
    notes = [row.note for row in other.history(stf.id) if row.dest == "tf_registered"]
    assert notes[0] is not None
    assert "another range" in notes[0]


def test_an_stf_that_is_not_selected_is_skipped_with_the_reason(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    testbed.settings = type(testbed.settings)(namespace="ns", selection_fraction=0.1)
    outbox = testbed.outbox()
    names = [testbed.receive(outbox, n) for n in range(1, 21)]
    settle(testbed.engine(outbox))
    states = Counter(named(outbox, name).state for name in names)
    assert states == {"completed": 2, "skipped": 18}
    skipped = named(outbox, names[1])
    assert skipped.due_at is None
    assert skipped.last_error == "not selected: FASTMON_SELECTION_FRACTION is 0.1"


def test_after_an_outage_new_stfs_do_not_wait_behind_the_backlog(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, workers=1)
    testbed.monitor.down = True
    backlog = [testbed.receive(outbox, n) for n in range(1, 41)]
    settle(engine)
    testbed.monitor.down = False
    testbed.time.pass_(minutes=10)
    fresh = testbed.receive(outbox, 100)
    for ticks in count(1):
        engine.tick(0)
        if named(outbox, fresh).state == "completed":
            break
        assert ticks < 200
    left = sum(named(outbox, name).state != "completed" for name in backlog)
    assert left > len(backlog) / 2


def test_only_late_announcements_are_rate_limited(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox, late_rate=7.0)
    for n in range(1, 11):
        testbed.receive(outbox, n, origin=Origin.RECOVERED)
    for _ in range(100):
        engine.tick(0)
    assert len(testbed.announced) == 7
    testbed.receive(outbox, 50)
    for _ in range(100):
        engine.tick(0)
    assert len(testbed.announced) == 14
    for _ in range(30):
        testbed.time.pass_(seconds=1)
        for _ in range(20):
            engine.tick(0)
    assert len(testbed.announced) == 7 * 11


def test_an_stf_is_due_after_the_clock_jumped_back(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    testbed.time.at = START.replace(year=2020)
    settle(testbed.engine(outbox))
    assert named(outbox, name).state == "completed"


@pytest.mark.parametrize(("retrying", "part"), [(False, 0), (True, 0), (True, 1)])
def test_the_query_for_due_stfs_uses_its_index(testbed: FakeTestbed, retrying: bool, part: int) -> None:
    outbox = testbed.outbox()
    due = DueQuery(now=START, far=START, retrying=retrying, newest=True, fresh_since=START)
    sql, values = due.in_state("received")[part]
    plan = query(outbox.path, f"explain query plan {sql}", *values)
    details = [row[3] for row in plan]
    assert sum("USING INDEX stf_due (state=? AND <expr>=? AND due_at" in detail for detail in details) == 1
    assert not any("TEMP B-TREE" in detail for detail in details)


@pytest.mark.parametrize(("preexisting", "announced"), [(7, 0), (6, 7)])
def test_tf_files_are_announced_unless_all_are_preexisting(
    testbed: FakeTestbed, preexisting: int, announced: int
) -> None:
    outbox = testbed.outbox()
    name = f"swf.100014.{1:06d}.stf"
    names = tuple(f"swf.100014.{1:06d}_tf_{n:03d}.tf" for n in range(1, preexisting + 1))
    testbed.receive(outbox, 1, preexisting=names)
    settle(testbed.engine(outbox))
    assert named(outbox, name).state == "completed"
    assert len(testbed.announced) == announced


def test_a_transient_error_postpones_the_stf_and_counts_one_attempt(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    testbed.monitor.trouble[name] = TransientError("monitor said 503, and has no such row")
    settle(engine)
    stf = named(outbox, name)
    assert (stf.state, stf.attempts) == ("sampled", 1)
    assert stf.last_error == "monitor said 503, and has no such row"
    assert stf.due_at is not None


@pytest.mark.field("29")
def test_an_stf_is_one_line_in_the_log_when_it_is_completed(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    with logged("INFO") as lines, logged("DEBUG") as all_lines:
        name = testbed.receive(outbox)
        settle(testbed.engine(outbox))
    assert lines == [f"{name}: notified -> completed\n"]
    steps = ("received -> sampled", "sampled -> tf_registered", "tf_registered -> notified", "notified -> completed")
    assert [line for line in all_lines if name in line] == [f"{name}: {step}\n" for step in steps]


@pytest.mark.field("29")
@pytest.mark.parametrize("reason", ["monitor said 503", "x" * 2000])
def test_an_error_that_repeats_is_logged_once(testbed: FakeTestbed, reason: str) -> None:
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    name = testbed.receive(outbox)
    with logged("WARNING") as lines:
        for _ in range(4):
            testbed.monitor.trouble[name] = TransientError(reason)
            settle(engine)
            testbed.time.pass_(seconds=61)
        testbed.monitor.trouble[name] = TransientError("now another one")
        settle(engine)
    assert named(outbox, name).attempts == 5
    assert [line.split(" failed, ")[0] for line in lines] == [f"{name}: attempt {n}" for n in (1, 5)]


def test_an_stf_without_a_sequence_number_is_announced_without_one(testbed: FakeTestbed) -> None:
    outbox = testbed.outbox()
    sent: list[dict[str, object]] = []

    def announce(body: str, _event_id: str) -> None:
        sent.append(json.loads(body))

    testbed.announce = announce  # type: ignore[method-assign]
    stf = NewStf(namespace="ns", run_id="100014", filename="unnumbered.stf")
    with outbox.transaction():
        outbox.receive(stf, "received", testbed.time.at)
    settle(testbed.engine(outbox))
    assert named(outbox, "unnumbered.stf").state == "completed"
    assert [message["tf_filename"] for message in sent] == [f"unnumbered_tf_{n:03d}.tf" for n in range(1, 8)]
    assert {(message["stf_filename"], message["stf_sequence"], message["previous_selected"]) for message in sent} == {
        ("unnumbered.stf", None, None)
    }


class FailsForTfs(FakeMonitor):
    """A monitor that fails for single TF files, by sequence."""

    def __init__(self, errors: dict[int, FastmonError]) -> None:
        super().__init__()
        self.errors = {f"swf.100014.000001_tf_{n:03d}.tf": error for n, error in errors.items()}

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        if tf.tf_filename in self.errors:
            self.posts[tf.tf_filename] += 1
            raise self.errors[tf.tf_filename]
        return super().register_tf(tf)


def test_after_a_failed_call_no_other_call_of_its_stf_is_made(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path, monitor=FailsForTfs({2: TransientError("500")}))
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    settle(testbed.engine(outbox, workers=1))
    assert list(testbed.monitor.posts.values()) == [1, 1]
    assert [tf.sequence for tf in named(outbox, name).tfs if tf.registered_at] == [1]


@pytest.mark.parametrize(("own", "links"), [(2, 3), (3, 2)])
def test_of_two_failures_the_stfs_own_counts_in_either_order(tmp_path: Path, own: int, links: int) -> None:
    testbed = FakeTestbed(
        tmp_path, monitor=FailsForTfs({own: PermanentError("400: too big"), links: LinkDown("no answer")})
    )
    outbox, pool = testbed.outbox(), Slow()
    name = testbed.receive(outbox)
    engine = testbed.engine(outbox, workers=2, pool=pool)
    for _ in range(3):
        engine.tick(0)
        pool.go_on()
    engine.tick(0)
    assert named(outbox, name).last_error == "400: too big"
    assert not engine.breakers.allows_calls("monitor")


# Steps and statechart


@pytest.mark.parametrize(("missing", "extra"), [("close_stf", None), (None, "archive_stf")])
def test_an_engine_needs_exactly_the_steps_of_the_chart(
    testbed: FakeTestbed, missing: str | None, extra: str | None
) -> None:
    chart = load_statechart("stf")
    names = ({*chart.steps, extra} if extra else set(chart.steps)) - {missing}
    with pytest.raises(StatechartError, match=missing or extra):
        testbed.engine(testbed.outbox(), steps={name: lambda _stf: [] for name in names})


def test_a_decision_that_the_chart_does_not_allow_moves_nothing(testbed: FakeTestbed) -> None:
    """This is a bug, and ends the process: no row may contradict the chart."""
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    steps = {step: lambda _stf: [] for step in load_statechart("stf").steps}
    for trigger in ("archive", "retry"):  # unknown, and not allowed from that state
        engine = testbed.engine(
            outbox,
            steps={**steps, "sample_tfs": lambda _stf, trigger=trigger: [lambda: StepOutcome(trigger, "a reason")]},
        )
        with pytest.raises(MachineError):
            settle(engine)
        assert (named(outbox, name).state, history(outbox, name)) == ("received", ["received"])


# The loop


class RecordingInbox(Inbox):
    """An inbox that records the requested waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def collect(self, wait_s: float) -> list[Any]:
        self.waits.append(wait_s)
        return super().collect(0)


@pytest.mark.parametrize("monitor_is_down", [False, True])
def test_an_idle_engine_waits_for_its_inbox(testbed: FakeTestbed, monitor_is_down: bool) -> None:
    outbox, inbox = testbed.outbox(), RecordingInbox()
    engine = testbed.engine(outbox, inbox=inbox)
    testbed.monitor.down = monitor_is_down
    testbed.receive(outbox)
    settle(engine)
    inbox.waits.clear()
    for _ in range(3):
        assert not engine.tick()
    assert inbox.waits == [TICK_S] * 3
    assert TICK_S >= 0.5


def test_wake_ends_the_wait_of_an_idle_engine(testbed: FakeTestbed) -> None:
    inbox, settled, ticked = Inbox(), threading.Event(), threading.Event()

    def run() -> None:
        with closing(testbed.outbox()) as outbox:
            testbed.receive(outbox)
            engine = testbed.engine(outbox, inbox=inbox)
            settle(engine)
            settled.set()
            engine.tick(600)
            ticked.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert settled.wait(60)
    assert not ticked.wait(0.2)
    inbox.wake()
    assert ticked.wait(60)
    thread.join(60)


def test_a_drain_stores_results_and_starts_nothing_new(testbed: FakeTestbed) -> None:
    outbox, pool, source = testbed.outbox(), Slow(), CountingSource()
    engine = testbed.engine(outbox, pool=pool, background_tasks=source.tasks, spare=source.idle_work)
    first = testbed.receive(outbox, 1)
    testbed.broker_is(engine, up=False)
    engine.tick(0)
    assert (engine.busy, source.task_calls) == (1, 1)
    engine.stopping.set()
    second = testbed.receive(outbox, 2)
    testbed.time.pass_(seconds=60)  # a probe of the broker is due
    pool.go_on()
    for _ in range(5):
        assert not engine.tick(0)
    assert [tf.filename for tf in named(outbox, first).tfs if tf.registered_at] == list(testbed.monitor.posts)
    assert len(testbed.monitor.posts) == 1
    assert named(outbox, second).state == "received"
    assert (pool.waiting, engine.busy, source.task_calls, source.idle_calls) == ([], 0, 1, 0)


class CountingSource:
    """A source of background tasks and idle work that counts its calls."""

    def __init__(self) -> None:
        self.task_calls = 0
        self.idle_calls = 0

    def tasks(self, _outbox: Outbox, _now: datetime) -> list[BackgroundTask]:
        self.task_calls += 1
        return []

    def idle_work(self, _outbox: Outbox, _now: datetime) -> None:
        self.idle_calls += 1


def test_the_announcement_has_the_fields_of_the_contract_and_no_agent_name(testbed: FakeTestbed) -> None:
    with closing(testbed.outbox()) as outbox:
        name = testbed.receive(outbox)
        settle(testbed.engine(outbox))
        stf = named(outbox, name)
    text, event_id = tf_file_registered(stf, stf.tfs[0], "a", 0.1, testbed.time.at)
    body = json.loads(text)
    assert body["msg_type"] == "tf_file_registered"
    assert body["status"] == "registered"
    assert body["run_id"] == "100014"
    assert body["event_id"] == event_id == testbed.announced[0]
    assert "agent_name" not in body


@dataclass
class Confirmations(FakeTestbed):
    """A broker whose confirmations come when the test gives them."""

    pending: list[Future[None]] = field(default_factory=list)

    def announce(self, _body: str, event_id: str) -> Future[None]:  # type: ignore[override]
        self.announced.append(event_id)
        self.pending.append(Future())
        return self.pending[-1]


def test_all_announcements_of_an_stf_are_sent_before_the_first_is_confirmed(tmp_path: Path) -> None:
    testbed, pool = Confirmations(tmp_path), Slow()
    outbox = testbed.outbox()
    name = testbed.receive(outbox)
    engine = testbed.engine(outbox, workers=7, pool=pool)
    while len(testbed.announced) < 7:
        engine.tick(0)
        pool.go_on()
    engine.tick(0)
    assert not pool.waiting
    assert [tf.announced_at for tf in named(outbox, name).tfs] == [None] * 7
    testbed.pending[3].set_result(None)
    testbed.pending[5].set_exception(LinkDown("the connection was lost"))
    engine.tick(0)
    assert engine.busy
    for n in (0, 1, 2, 4, 6):
        testbed.pending[n].set_result(None)
    engine.tick(0)
    assert [tf.sequence for tf in named(outbox, name).tfs if tf.announced_at is None] == [6]
    assert named(outbox, name).state == "tf_registered"
    assert not engine.breakers.allows_calls("announcements")
