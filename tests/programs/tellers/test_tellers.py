"""Ten runs and 134 more: whoever tells of them tells the same numbers, or says UNKNOWN."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.client_process import Dashboard
from tests.processes import TOKEN, wait_until
from tests.programs.tellers.world import (
    INTERVALS,
    LONGEST_S,
    EarlyClient,
    TellersTestbed,
    Told,
    newest_snapshot,
    tellers_testbed,
    told_by_row,
)

RUNS = {
    "plain": 1, "one fraction": 2, "fraction lowered": 3, "fraction raised": 4, "killed and back": 5,
    "three at once, first": 6, "three at once, second": 7, "three at once, third": 8, "stream deaf": 9, "dead": 10,
}  # fmt: skip
CHANGED = {"fraction lowered", "fraction raised"}
MANY = range(1000, 1134)


@dataclass(frozen=True)
class Heard:
    """What was told at the end."""

    testbed: TellersTestbed
    tables: dict[int, Told]
    daemon: dict[int, Told]
    """What `verdict` tells of RUNS."""
    early: dict[str, Any]
    """The summary of a client that was there from the start."""
    page: dict[str, Any]
    """The snapshot of a dashboard that was there from the start."""
    late: dict[str, Any]
    """The snapshot of a dashboard that came when all was over."""
    verdicts: dict[str, dict[str, Any]]
    """What the page said while no daemon lived: after SIGTERM, after `kill -9`, and with a new one."""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    folder: Path = tmp_path_factory.mktemp("tellers")
    with tellers_testbed(folder) as testbed, EarlyClient(testbed.monitor.url, "--last", "0") as early:
        url = testbed.monitor.url
        with Dashboard(url, token=TOKEN, **INTERVALS) as page:
            verdicts = _play(testbed, page)
            wait_until(lambda: not not_compared(newest_snapshot(page)), "all runs are compared", LONGEST_S)
            with Dashboard(url, "--last", "200", token=TOKEN, **INTERVALS) as late:
                wait_until(
                    lambda: newest_snapshot(late)["runs_total"] >= len(RUNS) + len(MANY),
                    "all runs are listed",
                    LONGEST_S,
                )
                wait_until(lambda: not newest_snapshot(late)["loading"]["runs"], "all runs are read", LONGEST_S)
                yield Heard(
                    testbed,
                    testbed.told_by_tables(),
                    {run: testbed.told_by_verdict(run) for run in RUNS.values()},
                    early.end(),
                    newest_snapshot(page),
                    newest_snapshot(late),
                    verdicts,
                )


def not_compared(snapshot: dict[str, Any]) -> list[str]:
    return [
        f"{run['run']} {run['ended_at']} {run['verified_at']} {run['doubt']}" for run in snapshot["runs"]
        if not run["ended_at"] or (run["verified_at"] or "") < run["ended_at"]
    ]  # fmt: skip


def _play(testbed: TellersTestbed, page: Dashboard) -> dict[str, dict[str, Any]]:
    found = {**_play_whole_runs(testbed, page), **_play_changed_fractions(testbed, page)}
    _play_a_kill(testbed)
    _play_three_at_once(testbed)
    return {**found, **_play_losses(testbed, page)}


def verdict_with(page: Dashboard, text: str) -> dict[str, Any]:
    """The first verdict whose reason contains *text*."""
    found: dict[str, Any] = {}

    def is_told() -> bool:
        found.update(newest_snapshot(page)["verdict"])
        return text in found["reason"]

    wait_until(is_told, text, LONGEST_S)
    return found


def _play_whole_runs(testbed: TellersTestbed, page: Dashboard) -> dict[str, dict[str, Any]]:
    testbed.start_daemon(1.0)
    for run in MANY:
        testbed.begin(run)
        testbed.take(run, [1])
        testbed.end(run, 1)
    testbed.wait_for_finalized(len(MANY))
    testbed.wait_until_complete(MANY[-1])
    testbed.begin(1)
    testbed.take(1, range(1, 13))
    flowing = verdict_with(page, "TF files/s")
    testbed.end(1, 12)
    testbed.wait_until_complete(1)
    return {"flowing": flowing}


def _play_changed_fractions(testbed: TellersTestbed, page: Dashboard) -> dict[str, dict[str, Any]]:
    testbed.begin(3)  # lowered as by an operator who notices the default, with STFs waiting
    testbed.take(3, range(1, 21))
    testbed.wait_for_finalized(12 + len(MANY) + 20)
    testbed.kill_daemon()
    testbed.take(3, range(21, 46))
    testbed.start_daemon(0.1)
    testbed.take(3, range(46, 66))
    testbed.end(3, 65)
    testbed.wait_until_complete(3)

    testbed.begin(2)
    testbed.take(2, range(1, 26))
    testbed.wait_for_finalized(12 + len(MANY) + 65 + 25)
    testbed.include("swf.2.000005.stf")  # the rule skips it, an operator does not
    testbed.end(2, 25)
    testbed.wait_until_complete(2)

    testbed.begin(4)
    testbed.take(4, range(1, 31))
    testbed.wait_for_finalized(12 + len(MANY) + 65 + 25 + 30)
    testbed.stop_daemon()
    stopped = verdict_with(page, "has stopped")
    testbed.start_daemon(1.0)
    testbed.take(4, range(31, 41))
    testbed.end(4, 40)
    testbed.wait_until_complete(4)
    return {"stopped": stopped}


def _play_a_kill(testbed: TellersTestbed) -> None:
    testbed.begin(5)
    testbed.take(5, range(1, 6))
    testbed.kill_daemon()
    testbed.take(5, range(6, 9), tell=False)  # found in the table only
    testbed.take(5, range(9, 12))
    testbed.start_daemon(1.0)
    testbed.take(5, range(12, 16))
    testbed.end(5, 15)
    testbed.wait_until_complete(5)


def _play_three_at_once(testbed: TellersTestbed) -> None:
    for run in (6, 7, 8):
        testbed.begin(run)
    for sequence in range(1, 11):
        for run in (6, 7, 8):
            testbed.take(run, [sequence])
    for run in (7, 8, 6):
        testbed.end(run, 10)
    testbed.wait_until_complete(6, 7, 8)


def _play_losses(testbed: TellersTestbed, page: Dashboard) -> dict[str, dict[str, Any]]:
    testbed.begin(9)
    testbed.take(9, range(1, 4))
    testbed.is_deaf = True  # the stream stays open, and delivers nothing
    testbed.take(9, range(4, 11))
    testbed.end(9, 10)
    testbed.wait_until_complete(9)
    testbed.is_deaf = False

    testbed.begin(10)
    finished = sum(testbed.states().values())
    testbed.take(10, range(1, 6))
    testbed.wait_for_finalized(finished + 5)
    testbed.kill_daemon()
    testbed.take(10, [6, 7, 9, 10])  # 8 is never registered
    killed = verdict_with(page, "is silent")
    testbed.end(10, 10)
    return {"killed": killed}


def rows(snapshot: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {int(row["run"]): row for row in snapshot["runs"]}


def assert_agree(heard: Heard, name: str, row: dict[str, Any], *, knows_the_summary: bool) -> None:
    run = RUNS[name]
    told, tables, verdict = told_by_row(row), heard.tables[run], heard.daemon[run]
    assert (told.stfs, told.tf_files) == (tables.stfs, tables.tf_files), row
    if name in CHANGED and not knows_the_summary:
        assert not told.certain
        assert "the selection fraction changed" in row["doubt"]
        return
    assert told.certain, row["doubt"]
    if name == "dead":
        assert (told.missing, row["missing"], row["state"]) == (5, [6, 7, 8, 9, 10], "ended")
        return
    assert (told.stfs, told.tf_files, told.skipped, told.missing) == (
        verdict.stfs, verdict.tf_files, verdict.skipped, verdict.missing,
    ), row  # fmt: skip
    assert (row["state"], verdict.certain) == ("complete", True)


def a_client_from_the_start_tells_what_tables_and_verdict_tell(heard: Heard, subtests: pytest.Subtests) -> None:
    for name, run in RUNS.items():
        with subtests.test(name):
            assert_agree(heard, name, rows(heard.early)[run], knows_the_summary=True)
            assert_agree(heard, name, rows(heard.page)[run], knows_the_summary=True)


def a_client_that_comes_late_tells_the_same_or_unknown(heard: Heard, subtests: pytest.Subtests) -> None:
    for name, run in RUNS.items():
        with subtests.test(name):
            assert_agree(heard, name, rows(heard.late)[run], knows_the_summary=False)


def summary_and_its_exit_code_tell_the_same_or_unknown(heard: Heard, subtests: pytest.Subtests) -> None:
    for name, run in RUNS.items():
        with subtests.test(name):
            code, [row] = heard.testbed.client("--run", str(run), command="summary")
            assert_agree(heard, name, row, knows_the_summary=False)
            assert code == (5 if name in {*CHANGED, "dead"} else 0)


def a_script_that_comes_late_gets_the_right_exit_code(heard: Heard, subtests: pytest.Subtests) -> None:
    for name, run in RUNS.items():
        with subtests.test(name):
            code, lines = heard.testbed.client(
                "--until", "end_run", "--fail-on-gaps", "--run-ids", f"000{run}", "--last", "0"
            )
            [row] = [row for row in lines[-1]["runs"] if row["run"] == str(run)]
            assert_agree(heard, name, row, knows_the_summary=False)
            assert code == (5 if name in {*CHANGED, "dead"} else 0)


def all_runs_are_listed_in_their_own_order_and_counted_once(heard: Heard, _subtests: pytest.Subtests) -> None:
    total = sum(each.tf_files for each in heard.tables.values())
    for snapshot in (heard.page, heard.late):
        assert snapshot["runs_total"] == len(RUNS) + len(MANY) + 1  # an old one of the testbed
        assert [int(row["run"]) for row in snapshot["runs"][:10]] == [10, 9, 8, 7, 6, 5, 4, 2, 3, 1]
        assert snapshot["totals"]["tf_files"] == total
    assert heard.early["totals"]["tf_files"] == total
    assert [row["state"] for row in heard.page["runs"][10:]] == ["complete"] * 20


def a_dead_daemon_is_named_with_its_host_and_the_remedy(heard: Heard, subtests: pytest.Subtests) -> None:
    for how, what, act in (("stopped", "has stopped", "start"), ("killed", "is silent", "status")):
        with subtests.test(how):
            verdict, host = heard.verdicts[how], socket.gethostname()
            assert (verdict["word"], verdict["state"]) == ("NOT FLOWING", "bad")
            assert re.fullmatch(rf"fastmon-agent-\S+ on {host} {what}", verdict["reason"])
            assert verdict["remedy"] == f"on {host}: systemctl {act} fastmon-daemon"
            assert verdict["since"]


def the_word_is_green_while_a_whole_run_is_taken(heard: Heard, _subtests: pytest.Subtests) -> None:
    assert (heard.verdicts["flowing"]["word"], heard.verdicts["flowing"]["state"]) == ("FLOWING", "good")
    assert heard.page["tiles"]["missing"]["run"] == "10"


CHECKS = (
    a_client_from_the_start_tells_what_tables_and_verdict_tell,
    a_client_that_comes_late_tells_the_same_or_unknown,
    summary_and_its_exit_code_tell_the_same_or_unknown,
    a_script_that_comes_late_gets_the_right_exit_code,
    all_runs_are_listed_in_their_own_order_and_counted_once,
    a_dead_daemon_is_named_with_its_host_and_the_remedy,
    the_word_is_green_while_a_whole_run_is_taken,
)


@pytest.mark.timeout(600)  # 144 runs with real processes
def test_all_tell_the_same(heard: Heard, subtests: pytest.Subtests) -> None:
    # One test, so that the runs are played once, however many workers there are.
    for check in CHECKS:
        with subtests.test(check.__name__):
            check(heard, subtests)
