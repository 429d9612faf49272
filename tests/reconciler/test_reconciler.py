"""The ledger's rules, by a clock that is moved by hand: looks, what counts as missed, ends, completion, summaries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from fastmon_daemon.actions.operator_actions import ActionRequest, OperatorActions
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import LinkBlocked, LinkDown, StorageUnavailable, TransientError
from fastmon_daemon.engine import Engine
from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.messages import run_number
from fastmon_daemon.monitor import StfFile, TfFile
from fastmon_daemon.outbox import Origin, RunRow, Stf, runs
from fastmon_daemon.reconciler.config import ReconcilerConfig, SummaryRoute
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.reconciler.verdict import Verdict, judge
from fastmon_daemon.runs.poll_state import ReconcilerIntervals
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.statechart import load_statechart
from tests.builders import START, FakeMonitor, Inline, World, named, settle

CHARTS = (load_statechart("stf"), load_statechart("run"))


class RunsMonitor(FakeMonitor):
    """The fake monitor with a table of STFs, and the end of the one run."""

    def __init__(self) -> None:
        super().__init__()
        self.stfs: dict[str, StfFile] = {}
        self.ended_at: str | None = None
        self.looks = 0
        self.lookups: list[str] = []
        self.list_trouble: Exception | None = None
        self.end_trouble: Exception | None = None
        self.lookup_trouble: dict[str, Exception] = {}
        self.runs = [100012, 100013]
        self.listings = 0

    def stf_files(self, run_number: int, at_least: int = 0) -> list[StfFile]:
        self.looks += 1
        self.probe()
        if self.list_trouble:
            raise self.list_trouble
        return list(self.stfs.values()) if run_number == 100014 else []

    def run_numbers(self) -> list[int]:
        self.listings += 1
        self.probe()
        return self.runs

    def run_ended_at(self, run_key: int) -> str | None:
        assert run_key == 77
        if self.end_trouble:
            raise self.end_trouble
        return self.ended_at

    def tf_files(self, stf_filename: str) -> list[TfFile]:
        self.lookups.append(stf_filename)
        self.probe()
        if stf_filename in self.lookup_trouble:
            raise self.lookup_trouble[stf_filename]
        return [tf for tf in self.rows.values() if tf.stf_filename == stf_filename]


class Waiting(Inline):
    """A pool whose calls wait while it is `held`."""

    def __init__(self) -> None:
        self.held = False
        self.calls: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self.held:
            return super().submit(fn, *args, **kwargs)
        self.calls.append(partial(fn, *args, **kwargs))
        return Future()

    def release(self) -> None:
        self.held = False
        while self.calls:
            self.calls.pop(0)()


def file_name(sequence: int) -> str:
    return f"swf.100014.{sequence:06d}.stf"


@dataclass
class Life(World):
    """A world in which one daemon after another lives, with its ledger."""

    monitor: RunsMonitor = field(default_factory=RunsMonitor)
    told: list[dict[str, Any]] = field(default_factory=list)
    keeps_all: bool = True
    paces: ReconcilerIntervals = field(default_factory=ReconcilerIntervals)
    short: bool = False
    """The disk is nearly full."""
    workers: int = 4
    pool: Waiting = field(default_factory=Waiting)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """The next process."""
        self.box = self.outbox()
        tracked = TrackedRuns()
        self.door = MessageHandler(
            self.folder / "outbox.db", "ns", "fastmon-agent-test-1", CHARTS, runs=tracked, clock=self.time.clock()
        )
        monitor: Any = self.monitor
        breakers = self.breakers(self.box)
        config = ReconcilerConfig(
            monitor=monitor, charts=CHARTS, polls_all_runs=self.keeps_all, intervals=self.paces,
            clock=self.time.clock(),
            summary_route=SummaryRoute(sender="fastmon-agent-test-1", link="broker", announce=self.tell),
            is_selected=lambda sequence, name: is_selected(self.settings.selection_fraction, sequence, name),
            refuse_if_short=self.refuse_if_short,
            allows_calls=breakers.allows_calls,
        )  # fmt: skip
        self.ledger = Reconciler(config, tracked)
        self.machine: Engine = self.engine(
            self.box, breakers=breakers, task_sources=[self.ledger], workers=self.workers, pool=self.pool
        )
        self.ledger.begin_listening(self.box)

    def refuse_if_short(self) -> None:
        if self.short:
            raise StorageUnavailable("10 MB free: make room")

    def tell(self, body: str, event_id: str) -> None:
        self.told.append(json.loads(body))

    def registers(self, *sequences: int) -> None:
        """The data agent registers these with the monitor."""
        for n in sequences:
            self.monitor.stfs[file_name(n)] = StfFile(
                stf_filename=file_name(n), file_size_bytes=None, checksum=None, tf_count=500,
                created_at=format_timestamp(self.time.at), body="{}", run_key=77,
            )  # fmt: skip

    def hears(self, kind: str, **fields: object) -> None:
        """A message comes."""
        self.door.handle(json.dumps({"msg_type": kind, "namespace": "ns", "run_id": "100014", **fields}))

    def says(self, kind: str, **fields: object) -> None:
        """A message comes, and is worked on."""
        self.hears(kind, **fields)
        self.works()

    def announces(self, *sequences: int) -> None:
        for n in sequences:
            self.says("stf_ready", filename=file_name(n), sequence=n)

    def works(self, turns: int = 12) -> None:
        """The engine turns so often, or until it does nothing any more."""
        idle = 0
        for _ in range(turns):
            idle = 0 if self.machine.tick(0) else idle + 1
            if idle == 2:
                return

    def pass_(self, seconds: float) -> None:
        """Time passes, and the engine turns in every second of it (of a long time, a hundred times)."""
        steps = min(int(seconds), 100)
        for _ in range(steps):
            self.time.pass_(seconds=seconds / steps)
            self.works(4)
        self.works()

    def begins_a_lookup(self) -> None:
        """Time passes until a lookup is under way, whose answer waits for `pool.release`."""
        for _ in range(400):
            self.time.pass_(seconds=0.25)
            looks = self.monitor.looks
            self.machine.tick(0)
            if self.monitor.looks == looks:
                continue
            self.pool.held = True  # what the look brought is settled in the next turn, and looked up in the same
            self.machine.tick(0)
            if self.pool.calls:
                return
            self.pool.held = False
        raise AssertionError("no lookup")

    def purges(self) -> None:
        """An operator has the run forgotten."""
        request = ActionRequest(action="purge", by="bob", run="100014")
        outcome = self.machine.inbox.submit(
            partial(OperatorActions(CHARTS[0], self.door, alone=False).perform, request)
        )
        self.machine.tick(0)
        assert outcome.result(0).done == ["100014"]
        assert self.box.runs.get("ns", "100014") is None

    @property
    def row(self) -> RunRow:
        row = self.box.runs.get("ns", "100014")
        assert row is not None
        return row

    @property
    def verdict(self) -> Verdict:
        return judge(self.box.by_run, self.row, CHARTS, self.time.at)

    def stf(self, sequence: int) -> Stf:
        return named(self.box, file_name(sequence))

    def first_note(self, sequence: int) -> str | None:
        return self.box.reports.history(self.stf(sequence).id)[0].note

    def known(self) -> Sequence[str]:
        return sorted(self.box.runs.known_names(self.row))


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


@contextmanager
def said() -> Iterator[list[str]]:
    """The warnings that are logged inside the block."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="WARNING", format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


# What counts as missed ------------------------------------------------------------------------------------------------


def test_an_stf_whose_message_never_came_is_recovered_after_half_a_minute(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.pass_(25)
    assert life.known() == [file_name(1)]
    assert life.row.absent == (file_name(2),)
    life.pass_(10)
    stf = life.stf(2)
    assert (stf.state, stf.origin, stf.tf_count, stf.sequence) == ("completed", Origin.RECOVERED, 500, 2)
    assert life.first_note(2) == "recovered: its message never came"
    assert life.row.absent == ()


def test_an_stf_whose_message_is_merely_late_is_not_recovered(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.pass_(20)
    life.announces(2)
    life.pass_(60)
    assert life.stf(2).origin is Origin.MESSAGE


def test_one_that_was_named_and_whose_message_comes_then_is_not_said_to_be_wanting_until_the_next_look(
    life: Life,
) -> None:
    life.registers(1, 2)
    life.announces(1)
    assert life.row.absent == (file_name(2),)
    looks = life.monitor.looks
    life.announces(2)
    assert (life.monitor.looks, life.verdict.incomplete_reasons, life.verdict.missing_names) == (
        looks,
        ("it has not ended",),
        (),
    )


def test_while_the_disk_is_nearly_full_nothing_is_taken_in_or_called_missed(life: Life) -> None:
    life.registers(1, 2, 3)
    life.announces(1)
    life.pass_(20)
    life.short = True  # 2 and 3 wait at the broker, unacknowledged
    life.pass_(60)
    assert life.known() == [file_name(1)]
    with pytest.raises(StorageUnavailable, match="make room"):
        life.ledger.reconcile("100014", "ns", list(life.monitor.stfs.values()), "alice")(life.box, life.time.at)
    life.short = False
    life.pass_(10)
    life.announces(2)
    life.pass_(60)
    assert (life.stf(2).origin, life.stf(3).origin) == (Origin.MESSAGE, Origin.RECOVERED)


def test_what_still_lies_in_the_brokers_backlog_is_not_recovered(life: Life) -> None:
    life.registers(*range(1, 9))
    for n in range(1, 9):
        life.announces(n)
        life.pass_(20)
    assert life.verdict.recovered == 0


def test_after_the_end_five_seconds_are_enough(life: Life) -> None:
    life.registers(1, 2, 3)
    life.announces(1)
    life.says("end_run", total_stf_files=3)
    life.pass_(4)
    assert life.known() == [file_name(1)]
    life.pass_(3)
    assert life.verdict.complete
    life.pass_(5)
    assert (life.verdict.received, life.verdict.recovered, life.row.state) == (1, 2, "complete")


def test_a_gap_in_the_sequence_makes_us_look_before_the_half_minute_is_over(life: Life) -> None:
    life.announces(1)
    life.works()
    looks = life.monitor.looks
    life.announces(3)
    life.pass_(8)
    assert life.monitor.looks == looks + 1


def test_the_outage_of_the_broker_is_named(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.pass_(10)
    life.broker_is(life.machine, up=False)
    life.works()
    life.pass_(15)
    life.registers(2)
    life.pass_(15)
    life.broker_is(life.machine, up=True)
    life.works()
    life.ledger.link_restored()
    life.pass_(40)
    assert life.stf(2).state == "completed"
    assert life.first_note(2) == "recovered: the broker link was down 20:00:10 to 20:00:40Z"
    assert [(outage.link, outage.began_at[11:19]) for outage in life.verdict.outages] == [("broker", "20:00:10")]


@pytest.mark.parametrize(
    ("clean", "reason"), [(True, "it was stopped"), (False, "it was killed, or its host went down")]
)
def test_the_time_without_a_daemon_is_named(life: Life, clean: bool, reason: str) -> None:
    life.registers(1)
    life.announces(1)
    life.pass_(20)
    if clean:
        life.ledger.end_listening(life.box)
    life.time.pass_(seconds=60)
    life.registers(2)
    life.time.pass_(seconds=60)
    life.start()
    life.pass_(40)
    assert life.first_note(2) == "recovered: the daemon was not running 20:00:20 to 20:02:20Z"
    assert [(outage.link, outage.reason) for outage in life.verdict.outages] == [("daemon", reason)]


def test_a_daemon_that_is_away_is_no_link_whose_gate_is_shut(life: Life) -> None:
    life.time.pass_(hours=1)
    life.start()
    assert life.machine.breakers.allows_calls("monitor")
    assert life.box.outages.open() == []


def test_every_run_that_is_not_complete_is_looked_at_at_the_start(life: Life) -> None:
    life.registers(1)
    life.says("end_run", total_stf_files=2)
    life.pass_(1000)
    assert life.row.poll_at is None
    assert life.verdict.missing_sequences == "2"
    life.registers(2)
    life.start()
    life.pass_(10)
    assert life.row.state == "complete"
    assert life.stf(2).origin is Origin.RECOVERED


# Runs that are announced without filenames ----------------------------------------------------------------------------


def test_a_run_announced_without_filenames_is_looked_at_every_three_seconds_until_it_has_ended(life: Life) -> None:
    life.says("stf_ready", req_id=1)
    assert life.known() == []
    life.registers(1)
    life.pass_(4)
    assert (life.stf(1).origin, life.stf(1).state, life.stf(1).run_id) == (Origin.POLLED, "completed", "100014")
    life.registers(2)
    life.says("end_run", total_stf_files=2)
    life.pass_(2)
    assert life.row.state == "complete"
    life.pass_(5)
    looks = life.monitor.looks
    life.pass_(100)
    assert life.monitor.looks == looks
    assert (life.verdict.received, life.verdict.recovered) == (2, 0)


def test_with_the_ledger_off_only_such_runs_are_looked_at_and_no_run_is_closed(tmp_path: Path) -> None:
    life = Life(tmp_path, keeps_all=False)
    life.registers(1, 2)
    life.announces(1)
    life.says("end_run", total_stf_files=1)
    life.pass_(60)
    assert (life.monitor.looks, life.known(), life.row.state) == (0, [file_name(1)], "ended")
    life.says("stf_ready", req_id=1)
    life.pass_(5)
    assert life.known() == [file_name(1), file_name(2)]
    assert life.told == []


def test_a_run_whose_id_is_no_number_cannot_be_asked_for_and_still_becomes_complete(life: Life) -> None:
    life.says("stf_ready", run_id="cosmics", filename="swf.cosmics.000001.stf")
    life.says("end_run", run_id="cosmics", total_stf_files=1)
    life.pass_(3)
    row = life.box.runs.get("ns", "cosmics")
    assert row is not None
    assert (row.state, row.poll_at, life.monitor.looks) == ("complete", None, 0)
    assert row.reconcile_error == "its run_id is no number: the monitor cannot be asked"
    assert life.told[0]["run_number"] is run_number("cosmics") is None


# The end --------------------------------------------------------------------------------------------------------------


def test_a_run_that_the_monitor_says_has_ended_has_ended(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1, 2)
    life.monitor.ended_at = format_timestamp(START + timedelta(seconds=5))
    life.pass_(40)
    assert life.row.state == "ended"
    assert life.row.ended_by == "the monitor gives it the end time 2026-11-21T20:00:05.000+00:00"
    life.pass_(40)
    assert (life.row.state, life.row.expected, life.row.expected_by) == ("complete", 2, "monitor")


@pytest.mark.parametrize("trouble", [LinkDown("500"), LinkBlocked("404, and a page")])
def test_a_monitor_that_does_not_tell_the_end_of_a_run_hides_no_missed_stf_and_shuts_no_gate(
    life: Life, trouble: Exception
) -> None:
    life.monitor.end_trouble = trouble
    life.registers(1, 2, 3)
    life.announces(1, 3)
    life.pass_(45)
    assert (life.row.state, life.stf(2).origin) == ("running", Origin.RECOVERED)
    assert life.box.outages.open() == life.box.by_run.outages.between("2000", "3000") == []


def test_a_run_of_which_nothing_was_heard_for_ten_minutes_and_all_is_here_has_ended(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.pass_(590)
    assert life.row.state == "running"
    life.pass_(150)
    assert life.row.state == "complete"
    assert "nothing was heard for 0:10:00" in (life.row.ended_by or "")


@pytest.mark.parametrize("monitor_too", [False, True])
def test_a_run_is_not_over_because_nothing_could_be_heard_of_it(life: Life, monitor_too: bool) -> None:
    life.registers(1)
    life.announces(1)
    life.pass_(40)
    life.broker_is(life.machine, up=False)
    life.monitor.down = monitor_too
    life.pass_(900)
    assert life.row.state == "running"
    life.broker_is(life.machine, up=True)
    life.ledger.link_restored()
    life.monitor.down = False
    life.pass_(300)
    assert life.row.state == "running"
    life.pass_(700)
    assert life.row.state == "complete"


def test_a_clock_that_jumps_ends_no_run_and_hides_no_missed_stf(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.works()
    life.time.at += timedelta(hours=2)
    life.pass_(45)
    assert (life.row.state, life.stf(2).origin) == ("running", Origin.RECOVERED)
    life.time.at -= timedelta(hours=4)
    life.registers(3)
    life.pass_(120)
    assert (life.row.state, life.stf(3).origin) == ("running", Origin.RECOVERED)


@pytest.mark.parametrize("minutes", [11, 50])
def test_after_the_end_a_clock_that_jumps_back_delays_no_missed_stf_by_more_than_a_minute(
    life: Life, minutes: int
) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.works()
    life.says("end_run", total_stf_files=2)
    life.works()
    life.time.at -= timedelta(minutes=minutes)
    life.pass_(60)
    assert life.stf(2).origin is Origin.RECOVERED


def test_a_paused_run_is_not_taken_for_over(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("pause_run")
    for _ in range(60):
        life.time.pass_(minutes=1)
        life.works()
    assert life.row.state == "paused"


def test_end_run_that_comes_late_is_the_authority_over_the_monitors_count(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.monitor.ended_at = format_timestamp(START)
    life.says("resume_run")
    life.pass_(35)
    assert life.row.state == "ended"
    life.says("end_run", total_stf_files=2)
    life.pass_(60)
    assert (life.row.state, life.row.expected, life.row.expected_by) == ("ended", 2, "end_run")
    life.registers(2)
    life.pass_(20)
    assert life.row.state == "complete"


def test_a_further_end_run_with_a_higher_total_opens_a_complete_run_until_all_are_here(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1, 2)
    life.says("end_run", total_stf_files=2)
    life.pass_(3)
    assert (life.row.state, life.verdict.complete) == ("complete", True)
    life.says("end_run", total_stf_files=3)
    life.pass_(20)
    assert (life.row.state, life.row.expected) == ("ended", 3)
    assert (life.verdict.complete, life.verdict.missing, life.verdict.missing_sequences) == (False, 1, "3")
    life.registers(3)
    life.pass_(25)
    assert (life.row.state, life.verdict.complete, life.stf(3).state) == ("complete", True, "completed")
    first, second = life.told
    assert (first["expected"], second["expected"]) == (2, 3)
    assert first["event_id"] != second["event_id"]


def test_the_first_end_run_too_opens_a_run_that_the_monitor_counted_complete_with_fewer(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.monitor.ended_at = format_timestamp(START)
    life.pass_(90)
    assert (life.row.state, life.row.expected_by) == ("complete", "monitor")
    life.says("end_run", total_stf_files=2)
    assert (life.row.state, life.verdict.incomplete_reasons) == ("ended", ("missing: 1",))


@pytest.mark.parametrize("total", [1, 2])
def test_a_further_end_run_with_no_higher_total_changes_nothing(life: Life, total: int) -> None:
    life.registers(1, 2)
    life.announces(1, 2)
    life.says("end_run", total_stf_files=2)
    life.pass_(3)
    before = life.row
    life.says("end_run", total_stf_files=total)
    assert (life.row.state, life.row.expected, life.row.poll_at) == (before.state, 2, before.poll_at)


def test_a_run_that_was_given_up_is_looked_at_as_long_again_when_its_total_rises(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("end_run", total_stf_files=2)
    life.pass_(1800)
    assert life.row.poll_at is None
    life.says("end_run", total_stf_files=3)
    life.pass_(600)
    life.registers(2, 3)
    life.pass_(30)
    assert life.row.state == "complete"


def test_a_run_is_not_complete_while_an_stf_is_missing_failed_or_unfinished(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1, 2)
    life.says("end_run", total_stf_files=4)
    life.pass_(30)
    assert life.verdict.incomplete_reasons == ("missing: 2",)
    assert life.verdict.missing_sequences == "3-4"
    life.monitor.trouble[file_name(3)] = TransientError("500")
    life.announces(3, 4)
    assert life.verdict.incomplete_reasons == ("unfinished: 1",)
    del life.monitor.trouble[file_name(3)]
    life.pass_(120)
    assert life.row.state == "complete"


def test_end_run_that_comes_while_the_verdict_is_made_keeps_the_run_from_being_complete(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.monitor.ended_at = format_timestamp(START)
    window, end_run = life.box.by_run.window, {"msg_type": "end_run", "run_id": "100014", "total_stf_files": 2}

    def slow(row: RunRow) -> tuple[str, str]:
        life.door.handle(json.dumps(end_run))
        return window(row)

    life.box.by_run.window = slow  # type: ignore[method-assign]
    life.pass_(90)
    assert (life.row.state, life.row.expected, life.told) == ("ended", 2, [])
    life.registers(2)
    life.pass_(30)
    assert life.row.state == "complete"
    assert [told["expected"] for told in life.told] == [2]


def test_a_monitor_that_is_away_at_the_end_gives_no_run_up(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.works()
    life.monitor.down = True
    life.says("end_run", total_stf_files=2)
    life.pass_(30)
    for _ in range(60):
        life.time.pass_(minutes=1)
        life.works()
    life.monitor.down = False
    life.pass_(30)
    assert life.row.state == "complete"


def test_a_monitor_that_goes_away_after_the_end_gives_no_run_up_when_it_is_back(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("end_run", total_stf_files=2)
    life.pass_(5)
    life.monitor.down = True
    for _ in range(60):
        life.time.pass_(minutes=1)
        life.works()
    life.monitor.down = False
    life.pass_(30)
    assert life.row.state == "ended"
    life.registers(2)  # its data agent had to wait for the monitor as well
    life.pass_(30)
    assert (life.row.state, life.stf(2).origin) == ("complete", Origin.RECOVERED)


def test_a_run_that_ended_is_looked_at_for_a_quarter_of_an_hour_and_no_longer(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("end_run", total_stf_files=2)
    for _ in range(8):
        life.pass_(100)
    assert life.box.runs.due_for_poll(life.time.at + timedelta(minutes=1), nameless_only=False)
    life.pass_(100)
    life.pass_(100)
    assert life.row.state == "ended"
    assert life.row.poll_at is None


def test_an_unstable_list_is_read_again_and_said(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.monitor.list_trouble = TransientError("the monitor counts 3 STFs in run 100014 but lists 2")
    life.says("end_run", total_stf_files=2)
    assert life.row.reconcile_error == "the monitor counts 3 STFs in run 100014 but lists 2"
    assert life.machine.breakers.allows_calls("monitor")
    life.monitor.list_trouble = None
    life.pass_(12)
    assert life.row.reconcile_error is None


def test_end_run_without_a_total_ends_the_run_and_leaves_the_count_to_the_monitor(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1, 2)
    life.says("end_run")
    assert (life.row.state, life.row.expected) == ("ended", None)
    assert life.verdict.incomplete_reasons == ("it is not known how many STFs there were",)
    life.pass_(60)
    assert (life.row.state, life.row.expected, life.row.expected_by) == ("complete", 2, "monitor")


def test_a_further_end_run_without_a_total_leaves_the_one_that_was_said(life: Life) -> None:
    life.announces(1)
    life.says("end_run", total_stf_files=3)
    life.says("end_run")
    assert (life.row.state, life.row.expected, life.row.expected_by) == ("ended", 3, "end_run")


def test_end_run_with_fewer_than_the_monitor_counted_is_the_authority_and_opens_nothing(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1, 2)
    life.monitor.ended_at = format_timestamp(START)
    life.pass_(90)
    assert (life.row.state, life.row.expected, life.row.expected_by) == ("complete", 2, "monitor")
    life.says("end_run", total_stf_files=1)
    assert (life.row.state, life.row.expected, life.row.expected_by) == ("complete", 1, "end_run")
    assert life.verdict.complete


def test_a_run_whose_stfs_are_overdue_and_still_coming_is_looked_at_once_a_second_at_most(life: Life) -> None:
    life.registers(*range(1, 9))
    for n in (1, 2, 3):
        life.announces(n)
        life.pass_(20)
    looks = life.monitor.looks
    for _ in range(100):
        life.time.pass_(seconds=0.1)
        life.works(2)
    assert 1 <= life.monitor.looks - looks <= 10


def test_a_run_is_not_complete_while_the_monitor_names_one_more_that_is_just_looked_up(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.says("end_run", total_stf_files=1)
    life.begins_a_lookup()
    assert (life.row.state, life.verdict.complete) == ("ended", False)
    assert life.verdict.incomplete_reasons == ("listed by the monitor, not received yet: 1",)
    life.pool.release()
    life.pass_(12)
    assert (life.row.state, life.verdict.complete, life.stf(2).state) == ("complete", True, "completed")


def test_nor_while_it_names_more_than_are_kept_by_name(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_ABSENT", 1)
    life.registers(1, 2, 3)
    life.announces(1)
    life.says("end_run", total_stf_files=1)
    life.begins_a_lookup()  # of both
    life.pool.held = False
    life.pool.calls.pop(0)()
    life.pass_(8)
    assert (life.known(), life.row.absent, life.row.state) == ([file_name(1), file_name(2)], (), "ended")
    life.pool.release()
    life.pass_(12)
    assert (life.row.state, life.verdict.recovered) == ("complete", 2)


def test_one_that_was_to_be_taken_in_when_the_disk_got_full_is_found_again_also_beyond_the_total(life: Life) -> None:
    life.registers(1, 2, 3, 4)
    life.announces(1)
    life.says("end_run", total_stf_files=1)
    life.begins_a_lookup()  # of two of them: the third waits
    life.short = True
    life.pool.release()
    life.works()
    life.short = False
    life.pass_(60)
    assert life.known() == [file_name(n) for n in (1, 2, 3, 4)]


# A run that an operator has forgotten ---------------------------------------------------------------------------------


def test_a_purged_run_that_begins_anew_is_looked_for_as_long_as_any_other(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("end_run", total_stf_files=2)
    life.pass_(1000)
    assert life.row.poll_at is None, "given up"
    life.purges()
    life.announces(1)
    life.says("end_run", total_stf_files=2)
    life.pass_(60)
    life.registers(2)
    life.pass_(30)
    assert life.row.state == "complete"


def test_a_look_at_a_run_that_was_purged_meanwhile_gives_up_no_run_that_begins_anew(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("end_run", total_stf_files=2)
    life.pass_(890)
    life.pool.held = True
    life.time.pass_(seconds=20)
    life.works(2)
    assert life.pool.calls, "the look after which it is given up"
    life.purges()
    life.hears("stf_ready", filename=file_name(1), sequence=1)
    life.hears("end_run", total_stf_files=2)
    life.pool.release()
    life.works()
    life.registers(2)
    life.pass_(40)
    assert life.row.state == "complete"


def test_a_purged_run_does_not_come_back_from_the_lookups_that_wait(life: Life) -> None:
    life.monitor.lookup_trouble[file_name(1)] = LinkDown("no answer")
    life.registers(1)
    life.says("end_run", total_stf_files=1)
    life.begins_a_lookup()
    life.pool.release()
    life.machine.tick(0)  # it failed: once more, as soon as the monitor is back
    life.purges()
    life.pass_(60)
    assert life.box.reports.run_counts() == life.box.reports.counts_by_state() == {}


def test_a_purged_run_does_not_come_back_from_a_lookup_under_way_nor_does_that_spoil_the_next_one(life: Life) -> None:
    life.registers(1)
    life.says("end_run", total_stf_files=1)
    life.begins_a_lookup()
    life.purges()
    life.pool.release()
    life.pass_(30)
    assert life.box.reports.run_counts() == life.box.reports.counts_by_state() == {}
    life.says("end_run", total_stf_files=1)
    life.pass_(30)
    assert (life.row.state, life.verdict.recovered) == ("complete", 1)


# Runs of which nothing was ever heard ---------------------------------------------------------------------------------


def unheard(life: Life) -> int:
    return life.box.reports.counters().get("runs_unknown", 0)


def test_a_run_that_came_and_went_while_nobody_listened_is_named_once_and_not_taken_in(life: Life) -> None:
    life.announces(1)
    life.monitor.runs.append(100014)
    life.pass_(70)
    assert unheard(life) == 0, "what was there before us is not ours"
    life.time.pass_(hours=1)
    life.monitor.runs += [100015, 100016]
    life.start()
    with said() as lines:
        life.pass_(70)
    assert unheard(life) == 2
    assert [line for line in lines if "100015, 100016" in line and "reconcile --run" in line]
    assert life.box.reports.run_counts() == {"running": 1}
    life.start()
    life.pass_(70)
    assert (unheard(life), life.monitor.listings) == (2, 3)


def test_a_run_that_is_heard_of_soon_after_a_start_is_not_unheard(life: Life) -> None:
    life.pass_(70)
    life.monitor.runs.append(100014)
    life.start()
    life.pass_(30)
    life.announces(7)
    life.pass_(60)
    assert unheard(life) == 0


def test_runs_that_cannot_be_listed_are_listed_later_and_shut_no_gate(life: Life) -> None:
    life.pass_(70)
    life.monitor.runs.append(100015)
    life.start()
    life.monitor.down = True
    life.pass_(100)
    assert (unheard(life), life.box.outages.open()) == (0, [])
    life.monitor.down = False
    life.pass_(700)
    assert unheard(life) == 1


# The summary ----------------------------------------------------------------------------------------------------------


def test_a_complete_run_owes_its_summary_until_it_has_gone_out(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    tell, life.tell = life.tell, lambda body, event_id: (_ for _ in ()).throw(LinkDown("stopped"))  # type: ignore[method-assign]
    life.start()
    life.says("end_run", total_stf_files=1)
    life.pass_(3)
    assert (life.row.state, life.row.summary_at) == ("complete", None)
    life.tell = tell  # type: ignore[method-assign]
    life.start()
    life.broker_is(life.machine, up=True)
    life.pass_(3)
    life.start()
    life.pass_(60)
    assert life.row.summary_at is not None
    (told,) = life.told
    assert {"run_id", "agent_name"} & set(told) == set()
    assert (told["msg_type"], told["run_number"], told["complete"]) == ("fastmon_run_summary", 100014, True)
    assert (told["expected"], told["completed"], told["tf_files"]["announced"]) == (1, 1, 7)


def test_a_verdict_that_does_not_hold_any_more_is_not_sent(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.works()
    life.broker_is(life.machine, up=False)
    life.works()
    life.says("end_run", total_stf_files=1)
    life.pass_(3)
    assert (life.row.state, life.told) == ("complete", [])
    life.says("end_run", total_stf_files=2)
    life.broker_is(life.machine, up=True)
    life.pass_(20)
    assert (life.row.state, life.told) == ("ended", [])


# TF files that stand already ------------------------------------------------------------------------------------------


def lose_the_database(life: Life) -> None:
    life.box.close()
    for path in life.folder.glob("outbox.db*"):
        path.unlink()
    life.announced.clear()
    life.start()


def test_what_stands_in_the_monitor_already_is_closed_without_announcing_again(life: Life) -> None:
    life.registers(1, 2)
    life.announces(1)
    life.works()
    assert len(life.announced) == 7
    lose_the_database(life)
    life.says("end_run", total_stf_files=2)
    life.pass_(8)
    assert life.row.state == "complete"
    assert [tf.monitor_id for tf in life.stf(1).tfs] == [
        life.monitor.rows[tf.filename].tf_file_id for tf in life.stf(1).tfs
    ]
    assert len(life.announced) == 7, "those of the second one only"
    tfs = life.verdict.tf_files
    assert (tfs.drawn, tfs.registered, tfs.announced, tfs.preexisting) == (14, 14, 7, 7)


def test_one_that_we_registered_ourselves_is_announced_also_after_a_kill_in_between(life: Life) -> None:
    life.registers(1)
    life.broker_is(life.machine, up=False)
    life.says("end_run", total_stf_files=1)
    life.pass_(8)
    assert (life.stf(1).state, len(life.monitor.rows)) == ("tf_registered", 7)
    life.start()
    life.broker_is(life.machine, up=True)
    life.pass_(40)
    assert (life.row.state, len(life.announced)) == ("complete", 7)


def test_where_some_of_its_tf_files_are_wanting_all_are_announced(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    del life.monitor.rows["swf.100014.000001_tf_004.tf"]
    lose_the_database(life)
    life.says("end_run", total_stf_files=1)
    life.pass_(8)
    assert life.row.state == "complete"
    assert len(life.announced) == 7


def test_many_lookups_leave_a_single_worker_to_the_stfs(tmp_path: Path) -> None:
    life = Life(tmp_path, workers=1, paces=ReconcilerIntervals(lookups_per_s=0))
    life.registers(*range(1, 101))
    life.says("end_run", total_stf_files=100)
    life.pass_(5)
    life.works(30)
    assert life.verdict.completed > 0
    assert len(life.monitor.lookups) < 100


def test_the_engine_is_not_idle_before_what_a_look_found_is_taken_in_and_done(life: Life) -> None:
    """So `run --once` does not end in between."""
    life.registers(1, 2)
    life.door.handle(json.dumps({"msg_type": "stf_ready", "namespace": "ns", "run_id": "100014"}))
    settle(life.machine)
    assert [life.stf(n).state for n in (1, 2)] == ["completed", "completed"]


def test_an_stf_that_cannot_be_looked_up_is_taken_in_all_the_same_and_delays_no_other(life: Life) -> None:
    life.registers(1, 2, 3)
    life.monitor.lookup_trouble[file_name(1)] = TransientError("500")
    life.says("end_run", total_stf_files=3)
    life.pass_(10)
    assert life.row.state == "complete"
    assert life.monitor.lookups.count(file_name(1)) == 3


def test_an_stf_whose_lookup_alone_never_gets_an_answer_is_taken_in_and_the_gate_stays_open(life: Life) -> None:
    life.monitor.lookup_trouble[file_name(1)] = LinkDown("500")
    life.registers(1, 2)
    life.announces(3)
    life.pass_(90)
    assert (life.stf(1).state, life.stf(2).state) == ("completed", "completed")
    assert life.monitor.lookups.count(file_name(1)) == 3
    assert life.machine.breakers.allows_calls("monitor")


def test_what_is_not_selected_is_taken_in_without_a_lookup(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.settings = type(life.settings)(namespace="ns", selection_fraction=0.01)
    life.start()
    life.registers(*range(1, 601))
    life.says("end_run", total_stf_files=600)
    life.pass_(8)
    life.works(100)
    life.pass_(5)
    assert (life.verdict.skipped, life.verdict.completed) == (594, 6)
    assert life.row.state == "complete"
    assert len(life.monitor.lookups) == 6


# By hand --------------------------------------------------------------------------------------------------------------


def test_a_run_that_was_never_heard_of_is_taken_in_by_hand(life: Life) -> None:
    life.registers(1, 2)
    found = life.machine.inbox.submit(life.ledger.reconcile("100014", "ns", life.monitor.stf_files(100014), "alice"))
    life.works()
    assert (found.result(0).monitor_count, found.result(0).known) == (2, 0)
    assert (life.stf(1).state, life.stf(2).state, life.row.state) == ("completed", "completed", "running")
    assert life.first_note(1) == "recovered: its message never came, looked for by alice"


# The numbers of a verdict ---------------------------------------------------------------------------------------------


def test_an_open_run_counts_the_gaps_below_its_last_stf_as_missing(life: Life) -> None:
    life.announces(1, 2, 6, 8)
    assert (life.verdict.missing, life.verdict.missing_sequences) == (4, "3-5, 7")
    assert life.verdict.incomplete_reasons[0] == "it has not ended"


def test_a_run_that_counts_from_zero_or_from_elsewhere_misses_nothing_that_it_never_had(life: Life) -> None:
    life.announces(0, 1)
    assert life.verdict.missing == 0
    life.says("end_run", total_stf_files=3)
    assert life.verdict.missing_sequences == "2"


def test_the_missing_numbers_of_a_run_that_does_not_count_from_1_are_those_between_its_own(life: Life) -> None:
    life.announces(101, 102, 104)
    life.says("end_run", total_stf_files=4)
    assert (life.verdict.missing, life.verdict.missing_sequences) == (1, "103")
    life.says("end_run", total_stf_files=6)
    assert (life.verdict.missing, life.verdict.missing_sequences) == (3, "103"), "the others are beyond, or before"


def test_latencies_are_told_for_each_arrow_in_the_order_of_the_chart(life: Life) -> None:
    life.broker_is(life.machine, up=False)
    life.announces(1, 2)
    life.pass_(4)
    life.broker_is(life.machine, up=True)
    life.works()
    arrows = [(each.source, each.dest, each.count) for each in life.verdict.latencies]
    assert arrows == [
        (None, "received", 2), ("received", "sampled", 2), ("sampled", "tf_registered", 2),
        ("tf_registered", "notified", 2), ("notified", "completed", 2),
    ]  # fmt: skip
    announcing = life.verdict.latencies[3]
    assert announcing.p50_s == pytest.approx(4, abs=0.01)
    assert announcing.max_s == pytest.approx(4, abs=0.01)


def test_the_verdict_of_a_run_whose_stfs_were_pruned_is_the_one_that_was_kept(life: Life) -> None:
    life.registers(1)
    life.announces(1)
    life.says("end_run", total_stf_files=1)
    life.pass_(3)
    before = life.verdict
    with life.box.transaction():
        life.box.delete_stfs("100014", "ns", 1000)
    after = life.verdict
    assert (after.complete, after.completed, after.tf_files) == (True, 1, before.tf_files)
    assert after.latencies == before.latencies
