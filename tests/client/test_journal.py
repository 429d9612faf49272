"""The journal of a dashboard: alarms and outages with their begin and end, also across restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.dashboard.journal import MAX_ALARMS, MAX_OUTAGES, SAVE_EVERY, Journal
from fastmon_client.journal_file import JOURNAL, SUMMARIES, Journaled, read_journal
from fastmon_client.state_folder import StateFolder
from tests.client.snapshots import alarm

AT = datetime(2026, 11, 21, 21, tzinfo=UTC)
ANA = {"by": "Ana", "at": "2026-11-21T21:01:00+00:00", "note": ""}


def at(minutes: float) -> datetime:
    return AT + timedelta(minutes=minutes)


def incidents(*alarms: dict[str, Any], by: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return [{**each, "acknowledged": by if each["until"] is None else None} for each in incidents_of(alarms)]


def spans(journal: Journal) -> list[tuple[str, str | None, bool]]:
    """Begin and end of each alarm, and whether the end is known."""
    return [(row["since"][11:16], row["until"] and row["until"][11:16], row["is_end_known"])
            for row in journal.read(AT).alarms]  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Journal]]:
    """Opens the journal in the folder of the test, after the one before was closed."""
    with ExitStack() as stack:

        def open_() -> Journal:
            stack.pop_all().close()
            return Journal(stack.enter_context(closing(StateFolder(tmp_path))))

        yield open_


def test_an_alarm_has_its_begin_its_end_and_who_acknowledged_it() -> None:
    journal = Journal()
    lasting = alarm(since=at(0).isoformat())
    journal.observe(incidents(lasting), [], [], at(0.1))
    assert spans(journal) == [("21:00", None, True)]
    journal.observe(incidents(lasting, by=ANA), [], [], at(1))
    over = alarm(since=at(0).isoformat(), until=at(2).isoformat())
    for minute in (2, 3):
        journal.observe(incidents(over), [], [], at(minute))
    assert spans(journal) == [("21:00", "21:02", True)]
    assert journal.read(AT).alarms[0]["acknowledged"] == ANA


def test_an_alarm_that_comes_back_is_another_one() -> None:
    journal = Journal()
    journal.observe(incidents(alarm(since=at(0).isoformat())), [], [], at(0.1))
    over, again = alarm(since=at(0).isoformat(), until=at(2).isoformat()), alarm(since=at(3).isoformat())
    for minute in (3, 4):
        journal.observe(incidents(again, over), [], [], at(minute))
    assert spans(journal) == [("21:00", "21:02", True), ("21:03", None, True)]


def test_an_alarm_that_becomes_part_of_another_ends_and_the_cause_goes_on() -> None:
    journal = Journal()
    stale = alarm("run_stale", since=at(0).isoformat())
    journal.observe(incidents(stale), [], [], at(0.1))
    silent = alarm("daemon_silent", None, subject="agent-1", since=at(1).isoformat())
    journal.observe(incidents(stale, silent), [], [], at(1))
    found = [(row["kind"], row["until"] and row["until"][11:16]) for row in journal.read(AT).alarms]
    assert found == [("run_stale", "21:01"), ("daemon_silent", None)]


def test_what_lasted_when_the_dashboard_stopped_has_an_end_that_nobody_saw(opened: Callable[[], Journal]) -> None:
    journal = opened()
    out = [AT.timestamp(), None, "NOT FLOWING", "no daemon"]
    journal.observe(incidents(alarm(since=at(0).isoformat())), [out], [], at(0.1))
    journal.observe(incidents(alarm(since=at(0).isoformat())), [out], [], at(5))
    again = opened()
    assert spans(again) == [("21:00", "21:05", False)]
    [outage] = again.read(AT).outages
    assert (outage["until"][11:16], outage["is_end_known"]) == ("21:05", False)
    other = [at(7).timestamp(), at(8).timestamp(), "UNKNOWN", "blind"]
    again.observe([], [other], [], at(9))
    again.observe([], [other], [], at(10))
    assert [(row["since"][11:16], row["word"]) for row in again.read(AT).outages] == [
        ("21:00", "NOT FLOWING"), ("21:07", "UNKNOWN"),
    ]  # fmt: skip
    assert [row["since"] for row in opened().read(AT).outages] == [row["since"] for row in again.read(AT).outages]


def test_a_change_is_saved_at_once_and_else_every_minute(opened: Callable[[], Journal], tmp_path: Path) -> None:
    journal = opened()

    def saved_at() -> str:
        return str(json.loads((tmp_path / JOURNAL).read_text())["at"])

    journal.observe([], [], [], AT)
    first = saved_at()
    changing = [alarm(since=AT.isoformat(), evidence=f"no TF file for {n} s") for n in range(3)]
    journal.observe(incidents(changing[0]), [], [], AT + timedelta(seconds=1))
    second = saved_at()
    assert first < second
    journal.observe(incidents(changing[1]), [], [], AT + timedelta(seconds=2))  # the evidence alone is no change
    assert saved_at() == second
    journal.observe(incidents(changing[2]), [], [], AT + timedelta(seconds=1) + SAVE_EVERY)
    assert saved_at() > second
    assert "for 2 s" in (tmp_path / JOURNAL).read_text()


def test_alarms_that_only_a_terminal_acknowledged_are_told_once(opened: Callable[[], Journal], tmp_path: Path) -> None:
    found = incidents(alarm(since=at(0).isoformat()))
    kept = Acknowledgements(StateFolder(tmp_path, is_shared=True))
    kept.acknowledge(found[0], "Ana", "called the DAQ", at(1))
    [row] = (read_journal(tmp_path)[0] or Journaled()).alarms
    assert (row["title"], row["run"], row["acknowledged"]["by"], row["until"]) == (
        "STFs are missing", "100014", "Ana", None,
    )  # fmt: skip
    opened().observe([{**found[0], "acknowledged": kept.of(found[0])}], [], [], at(2))
    assert len((read_journal(tmp_path)[0] or Journaled()).alarms) == 1


def test_summaries_are_kept_if_they_are_short(opened: Callable[[], Journal], tmp_path: Path) -> None:
    short, long = {"run_number": 7, "completed": 5}, {"run_number": 8, "note": "x" * 30_000}
    opened().observe([], [], [short, long], AT)
    assert read_journal(tmp_path)[1] == {"7": short}
    assert opened().summaries == {"7": short}


def test_the_journal_is_bounded(opened: Callable[[], Journal], tmp_path: Path) -> None:
    journal = opened()
    for begin in range(0, MAX_ALARMS + 50, 50):
        since = at(begin).isoformat()
        journal.observe(incidents(*(alarm(run=f"{begin + n}", since=since) for n in range(50))), [], [], at(begin))
    outages = [[at(n).timestamp(), at(n + 1).timestamp(), "UNKNOWN", ""] for n in range(MAX_OUTAGES)]
    journal.observe([], outages, [], at(2000))
    found, _ = read_journal(tmp_path)
    assert found is not None
    assert (len(found.alarms), len(found.outages)) == (MAX_ALARMS, MAX_OUTAGES)


def test_a_disk_that_is_full_costs_the_file_and_nothing_else(opened: Callable[[], Journal], tmp_path: Path) -> None:
    journal = opened()
    (tmp_path / "journal.tmp").mkdir()
    journal.observe(incidents(alarm(since=AT.isoformat())), [], [], AT)
    assert spans(journal) == [("21:00", None, True)]
    (tmp_path / "journal.tmp").rmdir()
    journal.observe(incidents(alarm(since=AT.isoformat())), [], [], at(1))
    assert (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"at": "x", "alarms": [], "outages": []}', '{"at": "2026-11-21T21:00:00+00:00", "alarms": 5}']
)
def test_a_journal_that_is_not_ours_is_put_aside(opened: Callable[[], Journal], tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL).write_text(text)
    (tmp_path / SUMMARIES).write_text(text)
    assert opened().read(AT).alarms == []
    assert {path.name for path in tmp_path.iterdir()} >= {"journal.unreadable", "summaries.unreadable"}
