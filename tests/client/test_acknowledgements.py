"""Acknowledgements: who took note of an alarm, and when; kept in a file."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fastmon_client.dashboard.acknowledgements import FILE_NAME, MAX_NAME, Acknowledgements
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.state_folder import StateFolder, StateFolderError
from tests.client.snapshots import alarm
from tests.processes import DEADLINE_S

Open = Callable[[], Acknowledgements]

AT = datetime(2026, 11, 21, 21, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Acknowledgements]]:
    """Opens those in the folder of the test."""
    with ExitStack() as stack:

        def open_() -> Acknowledgements:
            stack.pop_all().close()  # the program before
            return Acknowledgements(stack.enter_context(closing(StateFolder(tmp_path))))

        yield open_


def one(**changes: Any) -> dict[str, Any]:
    [found] = incidents_of([alarm(**changes)])
    return found


def test_an_acknowledged_alarm_says_by_whom_and_when(opened: Open) -> None:
    kept = opened()
    assert kept.of(one()) is None
    kept.acknowledge(one(), "Ana", "called the DAQ", AT)
    found = kept.of(one())
    assert found is not None
    assert (found["by"], found["at"], found["note"]) == ("Ana", "2026-11-21T21:00:00+00:00", "called the DAQ")
    assert kept.of(one(run="100015", subject="100015")) is None


def test_the_first_acknowledgement_counts() -> None:
    kept = Acknowledgements()
    kept.acknowledge(one(), "Ana", "", AT)
    assert kept.acknowledge(one(), "Ben", "", LATER)["by"] == "Ana"


def test_it_survives_a_restart_although_the_alarm_is_then_raised_later(opened: Open) -> None:
    kept = opened()
    kept.observe([one()], AT)
    kept.acknowledge(one(), "Ana", "", AT)
    again = opened()
    again.observe([], LATER)  # nothing is known yet
    again.observe([one(since=LATER.isoformat())], LATER)
    assert again.of(one(since=LATER.isoformat())) is not None


def test_an_alarm_that_comes_back_is_new(opened: Open) -> None:
    kept = opened()
    kept.observe([one()], AT)
    kept.acknowledge(one(), "Ana", "", AT)
    kept.observe([one(until=LATER.isoformat())], LATER)
    assert kept.of(one(until=LATER.isoformat())) is not None
    assert kept.of(one(since=LATER.isoformat())) is None


def test_an_alarm_that_comes_back_at_once_is_new() -> None:
    kept = Acknowledgements()
    kept.observe([one()], AT)
    kept.acknowledge(one(), "Ana", "", AT)
    kept.observe([one(since=LATER.isoformat())], LATER)
    assert kept.of(one(since=LATER.isoformat())) is None


def test_an_alarm_whose_end_and_new_beginning_are_seen_together_is_new() -> None:
    kept = Acknowledgements()
    kept.observe([one()], AT)
    kept.acknowledge(one(), "Ana", "", LATER)
    again = one(since=AT.isoformat())
    kept.observe([again, one(until=AT.isoformat())], LATER)
    assert kept.of(again) is None


def test_two_agents_are_acknowledged_apart() -> None:
    kept = Acknowledgements()
    first, second = (one(kind="daemon_silent", run=None, subject=name) for name in ("agent-1", "agent-2"))
    kept.acknowledge(first, "Ana", "", AT)
    assert kept.of(second) is None


ROW = {"kind": "stfs_missing", "subject": "1", "since": AT.isoformat(), "by": "Ana", "at": AT.isoformat(),
       "note": "", "until": None, "title": "STFs are missing", "evidence": "3 STFs"}  # fmt: skip


@pytest.mark.parametrize("rows", [[{"kind": 1}], [{**ROW, "at": 5}], [{**ROW, "until": 5}], [ROW, None], {"a": ROW}])
def test_a_file_that_is_not_ours_is_put_aside(tmp_path: Path, opened: Open, rows: Any) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"acknowledgements": rows}))
    assert opened().rows() == []
    assert (tmp_path / "acknowledgements.unreadable").exists()


def test_a_folder_has_one_dashboard(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    with pytest.raises(StateFolderError, match="in use by another dashboard"):
        StateFolder(tmp_path)
    first.close()
    StateFolder(tmp_path).close()


def test_nobody_else_can_read_a_folder_that_is_made(tmp_path: Path) -> None:
    StateFolder(tmp_path / "new").close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_what_cannot_be_written_is_not_said_to_be_kept(tmp_path: Path, opened: Open) -> None:
    kept = opened()
    (tmp_path / "acknowledgements.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        kept.acknowledge(one(), "Ana", "", AT)
    assert kept.of(one()) is None


def test_the_file_is_bounded(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_client.dashboard.acknowledgements.MAX_KEPT", 3)
    kept = opened()
    for number in range(5):
        kept.acknowledge(one(subject=f"{number}"), f"{number}" * 1000, "y" * 1000, AT)
    rows = json.loads((tmp_path / FILE_NAME).read_text())["acknowledgements"]
    assert [row["by"] for row in rows] == ["2" * MAX_NAME, "3" * MAX_NAME, "4" * MAX_NAME]


# Shared with a terminal


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Acknowledgements, Acknowledgements]]:
    """Those of a dashboard, and of a terminal beside it."""
    with closing(StateFolder(tmp_path)) as own, closing(StateFolder(tmp_path, is_shared=True)) as shared:
        yield Acknowledgements(own), Acknowledgements(shared)


def test_a_terminal_and_a_dashboard_see_what_the_other_acknowledged(
    both: tuple[Acknowledgements, Acknowledgements],
) -> None:
    for here, there, kind in (*[(*both, "stfs_missing")], (both[1], both[0], "run_stale")):
        here.acknowledge(one(kind=kind), "Ana", "", AT)
        there.observe([one(kind=kind)], AT)
        assert (there.of(one(kind=kind)) or {})["by"] == "Ana"
    assert len(both[0].rows()) == len(both[1].rows()) == 2


def test_the_first_of_two_processes_counts(both: tuple[Acknowledgements, Acknowledgements]) -> None:
    dashboard, terminal = both
    dashboard.acknowledge(one(), "Ana", "", AT)
    assert terminal.acknowledge(one(), "Ben", "", LATER)["by"] == "Ana"


def test_the_end_that_one_process_sees_loses_nothing_of_the_other(
    both: tuple[Acknowledgements, Acknowledgements],
) -> None:
    dashboard, terminal = both
    dashboard.observe([one()], AT)
    dashboard.acknowledge(one(), "Ana", "", AT)
    terminal.acknowledge(one(kind="run_stale"), "Ben", "", AT)
    dashboard.observe([], LATER)
    terminal.observe([], LATER)
    assert [(row["by"], row["until"] is None) for row in terminal.rows()] == [("Ana", False), ("Ben", True)]


def test_many_processes_acknowledge_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path;"
        "from fastmon_client.dashboard.acknowledgements import Acknowledgements;"
        "from fastmon_client.state_folder import StateFolder;"
        "kept = Acknowledgements(StateFolder(Path(sys.argv[1]), is_shared=True));"
        "[kept.acknowledge({'kind': 'run_stale', 'subject': f'{sys.argv[2]}/{n}', 'since': 'x', 'title': '',"
        " 'evidence': '', 'until': None}, 'Ana', '', datetime.now(UTC)) for n in range(20)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(n)]) for n in range(3)]
    assert [each.wait(DEADLINE_S) for each in running] == [0, 0, 0]
    with closing(StateFolder(tmp_path)) as folder:
        assert len(Acknowledgements(folder).rows()) == 60
