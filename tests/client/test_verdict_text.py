"""Whole verdicts: every word, the time since when, and the tiles, at the edges of the rules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastmon_client.verdict import TablesStatus, judge
from tests.client.snapshots import run
from tests.client.test_verdict import AT, FAILED, ago, connection, daemon, facts, silent, stopped_run, whole_run

DEAD = connection("DEAD", "reset")
CONNECTING = connection("CONNECTING")
UNREAD = TablesStatus()
NO_HOST = daemon(host=None, state="warning", text="backlog")
ASK = "ask the DAQ's shifter whether run 100014 still takes data"


def said(**changes: Any) -> tuple[str, str, str | None, str, str]:
    """Word, colour, time since when, reason and remedy."""
    verdict, _ = judge(facts(**changes))
    return verdict["word"], verdict["state"], verdict["since"], verdict["reason"], verdict["remedy"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("FLOWING", "good", None, "11.6 TF files/s, the last 2 s ago; none in run 100014", "")),
        ({"daemons": [silent()], "runs": [whole_run(last_at=ago(72))]},
         ("NOT FLOWING", "bad", ago(70),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"daemons": [daemon(state="bad", status="EXITED", since=ago(3), text="has stopped")]},
         ("NOT FLOWING", "bad", ago(3),
          "fastmon-agent-a-1 on daq7 has stopped", "on daq7: systemctl start fastmon-daemon")),
        ({"daemons": [silent()]},
         ("DEGRADED", "warning", ago(70),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"daemons": [silent(namespace="other")]},
         ("NOT FLOWING", "bad", ago(70),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"daemons": [silent()], "runs": [whole_run(last_at=ago(55))]},
         ("NOT FLOWING", "bad", ago(70),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"daemons": [silent()], "runs": [whole_run(last_at=ago(54))]},
         ("DEGRADED", "warning", ago(70),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"daemons": [silent(host=None)], "runs": [whole_run(last_at=ago(72))]},
         ("NOT FLOWING", "bad", ago(70),
          "fastmon-agent-a-1 is silent", "on the daemon's host: systemctl status fastmon-daemon")),
        ({"daemons": [daemon(name="b"), silent()]},
         ("DEGRADED", "warning", ago(70),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"daemons": [NO_HOST]},
         ("DEGRADED", "warning", None, "fastmon-agent-a-1: backlog",
          "on the daemon's host: fastmon-daemon inspect")),
        ({"daemons": []},
         ("DEGRADED", "warning", None,
          "no daemon reports to the monitor", "start fastmon-daemon, or check --namespace")),
        ({"daemons": [], "runs": [whole_run(last_at=ago(60))]},
         ("DEGRADED", "warning", None,
          "no daemon reports to the monitor", "start fastmon-daemon, or check --namespace")),
        ({"daemons": [], "runs": [whole_run(last_at=ago(61))]},
         ("NOT FLOWING", "bad", None,
          "no daemon reports to the monitor", "start fastmon-daemon, or check --namespace")),
        ({"daemons": [], "runs": []},
         ("NOT FLOWING", "bad", None,
          "no daemon reports to the monitor", "start fastmon-daemon, or check --namespace")),
        ({"agents_are_known": False},
         ("UNKNOWN", "unknown", None, "whether a daemon lives is unknown: agents: not read yet", "")),
        ({"agents_are_known": False, "agents_failure": "404"},
         ("UNKNOWN", "unknown", None, "whether a daemon lives is unknown: agents: 404", "")),
        ({"agents_are_known": False, "tables": FAILED},
         ("DEGRADED", "warning", ago(0),
          "the tables cannot be read, so numbers are UNKNOWN: monitor answered 500 to /api/runs/",
          "check the tables: fastmon-client status")),
        ({"runs": [stopped_run()], "daemons": [daemon(state="bad", text="blocked")]},
         ("NOT FLOWING", "bad", ago(80), "fastmon-agent-a-1 on daq7: blocked", "on daq7: fastmon-daemon inspect")),
        ({"runs": [stopped_run()], "daemons": [NO_HOST]},
         ("NOT FLOWING", "bad", ago(80),
          "fastmon-agent-a-1: backlog", "on the daemon's host: fastmon-daemon inspect")),
        ({"runs": [stopped_run()], "daemons": [daemon(namespace="other", state="bad", text="blocked")]},
         ("NOT FLOWING", "bad", ago(80),
          "no STF of run 100014 is registered: the DAQ or the data agent is silent", ASK)),
        ({"runs": [stopped_run(namespace=None)], "daemons": [daemon(namespace="other", state="bad", text="blocked")]},
         ("NOT FLOWING", "bad", ago(80), "fastmon-agent-a-1 on daq7: blocked", "on daq7: fastmon-daemon inspect")),
        ({"runs": [stopped_run(stf_registered_at=ago(65))]},
         ("NOT FLOWING", "bad", ago(80),
          "no STF of run 100014 is registered: the DAQ or the data agent is silent", ASK)),
        ({"runs": [stopped_run(stf_registered_at=ago(64))]},
         ("NOT FLOWING", "bad", ago(80),
          "STFs of run 100014 are registered, but TF files are not made of them",
          "on daq7: fastmon-daemon inspect")),
        ({"runs": [stopped_run(stf_registered_at=ago(64), namespace="other")]},
         ("NOT FLOWING", "bad", ago(80),
          "STFs of run 100014 are registered, but TF files are not made of them",
          "on the daemon's host: see its log")),
        ({"runs": [stopped_run(stf_registered_at=ago(64))], "daemons": [daemon(host=None)]},
         ("NOT FLOWING", "bad", ago(80),
          "STFs of run 100014 are registered, but TF files are not made of them",
          "on the daemon's host: fastmon-daemon inspect")),
        ({"runs": [stopped_run(last_at=None, began_at=None, stf_registered_at=ago(64))]},
         ("NOT FLOWING", "bad", None,
          "STFs of run 100014 are registered, but TF files are not made of them",
          "on daq7: fastmon-daemon inspect")),
        ({"runs": [stopped_run(last_at=None, began_at=ago(90), stf_registered_at=ago(64))]},
         ("NOT FLOWING", "bad", ago(90),
          "STFs of run 100014 are registered, but TF files are not made of them",
          "on daq7: fastmon-daemon inspect")),
        ({"runs": [stopped_run(stf_generated_at=ago(60))]},
         ("NOT FLOWING", "bad", ago(80),
          "the DAQ makes STFs of run 100014, but the data agent registers none", "check the data agent")),
        ({"runs": [stopped_run(stf_generated_at=ago(61))]},
         ("NOT FLOWING", "bad", ago(80), "the DAQ is silent: it makes no STFs of run 100014", ASK)),
        ({"runs": [stopped_run()], "silent_data_agents": {"epic": "data-1 on daq3"}},
         ("NOT FLOWING", "bad", ago(80), "the data agent data-1 on daq3 is silent", "restart it on its host")),
        ({"runs": [stopped_run()], "silent_daqs": {"epic": "daqsim-1"}},
         ("NOT FLOWING", "bad", ago(80), "the DAQ's agent daqsim-1 is silent", ASK)),
        ({"runs": [stopped_run()], "tables": FAILED},
         ("NOT FLOWING", "bad", ago(80),
          "no TF file of run 100014 comes, and the tables cannot tell why", "fastmon-client status")),
        ({"runs": [stopped_run()]},
         ("NOT FLOWING", "bad", ago(80),
          "no STF of run 100014 is registered: the DAQ or the data agent is silent", ASK)),
        ({"runs": [stopped_run(stale=False)]},
         ("NOT FLOWING", "bad", ago(80),
          "no STF of run 100014 is registered: the DAQ or the data agent is silent", ASK)),
        ({"runs": [stopped_run(stale=False, last_at=ago(60))]},
         ("FLOWING", "good", None, "0.0 TF files/s, the last 1 min 0 s ago; none in run 100014", "")),
        ({"runs": [stopped_run(stale=False, rate_hz=0.1)]},
         ("FLOWING", "good", None, "0.1 TF files/s, the last 1 min 20 s ago; none in run 100014", "")),
        ({"runs": [whole_run("2"), stopped_run("1")]},
         ("DEGRADED", "warning", ago(80),
          "no STF of run 1 is registered: the DAQ or the data agent is silent",
          "ask the DAQ's shifter whether run 1 still takes data")),
        ({"runs": [whole_run(state="paused", namespace="epic")]},
         ("NOT FLOWING", "unknown", None, "run 100014 is paused", "")),
        ({"runs": [whole_run(state="imminent")], "daemons": [daemon(state="warning", text="backlog")]},
         ("NOT FLOWING", "warning", None,
          "run 100014 is imminent; fastmon-agent-a-1 on daq7: backlog", "on daq7: fastmon-daemon inspect")),
        ({"runs": [whole_run(state="paused", last_at=ago(61))], "daemons": [silent(since=ago(300))]},
         ("NOT FLOWING", "bad", ago(300),
          "fastmon-agent-a-1 on daq7 is silent", "on daq7: systemctl status fastmon-daemon")),
        ({"runs": []}, ("NOT FLOWING", "unknown", None, "no run takes data", "")),
        ({"runs": [whole_run(state="ended")]}, ("NOT FLOWING", "unknown", None, "no run takes data", "")),
        ({"runs": [whole_run("2", state="complete", ended_at=ago(100)),
                   whole_run("1", state="complete", ended_at=ago(600))]},
         ("NOT FLOWING", "unknown", ago(100),
          "no run takes data since run 2 ended", "")),
        ({"runs": [whole_run(state="ended", ended_at=ago(9))], "daemons": [NO_HOST]},
         ("NOT FLOWING", "warning", ago(9),
          "no run takes data since run 100014 ended; fastmon-agent-a-1: backlog",
          "on the daemon's host: fastmon-daemon inspect")),
        ({"runs": [whole_run(state="ended", ended_at=ago(9))], "connection": DEAD},
         ("NOT FLOWING", "bad", ago(9),
          "no run takes data since run 100014 ended; the stream is lost (reset): numbers come from the tables, late",
          "check the stream: fastmon-client status")),
        ({"runs": [run(last_at=ago(2))]},
         ("DEGRADED", "warning", None,
          "TF files of 4 STFs of run 100014 are missing", "on daq7: fastmon-daemon verdict 100014")),
        ({"runs": [run("2", last_at=ago(2)), run("1", last_at=ago(2))],
          "daemons": [daemon(state="unknown", host=None)]},
         ("DEGRADED", "warning", None,
          "TF files of 8 STFs of run 2 and 1 more run are missing",
          "on the daemon's host: fastmon-daemon verdict 2")),
        ({"runs": [run("2", last_at=ago(2)), run("1"), run("0")], "daemons": [silent(host="x"), daemon()]},
         ("DEGRADED", "warning", ago(70),
          "fastmon-agent-a-1 on x is silent", "on x: systemctl status fastmon-daemon")),
        ({"connection": DEAD},
         ("DEGRADED", "warning", ago(100),
          "the stream is lost (reset): numbers come from the tables, late",
          "check the stream: fastmon-client status")),
        ({"tables": FAILED},
         ("DEGRADED", "warning", ago(0),
          "the tables cannot be read, so numbers are UNKNOWN: monitor answered 500 to /api/runs/",
          "check the tables: fastmon-client status")),
        ({"tables": UNREAD}, ("UNKNOWN", "unknown", None, "stream: LIVE; tables: not read yet", "")),
        ({"connection": CONNECTING}, ("UNKNOWN", "unknown", None, "stream: connecting; tables: read 0 s ago", "")),
        ({"connection": CONNECTING, "is_late": True},
         ("DEGRADED", "warning", ago(100),
          "the stream is lost (no response): numbers come from the tables, late",
          "check the stream: fastmon-client status")),
        ({"connection": CONNECTING, "tables": UNREAD}, ("UNKNOWN", "unknown", None, "connecting to the monitor",
          "")),
        ({"connection": CONNECTING, "tables": FAILED},
         ("UNKNOWN", "unknown", ago(100),
          "monitor does not answer: monitor answered 500 to /api/runs/",
          "check the connection: fastmon-client status")),
        ({"connection": CONNECTING, "tables": UNREAD, "is_late": True},
         ("UNKNOWN", "unknown", ago(100),
          "monitor does not answer: no response", "check the connection: fastmon-client status")),
        ({"connection": DEAD, "tables": UNREAD},
         ("UNKNOWN", "unknown", ago(100),
          "monitor does not answer: reset", "check the connection: fastmon-client status")),
        ({"connection": connection("DEAD"), "tables": FAILED},
         ("UNKNOWN", "unknown", ago(100),
          "monitor does not answer: monitor answered 500 to /api/runs/",
          "check the connection: fastmon-client status")),
        ({"connection": connection("REFUSED", "rejected (401)"), "tables": FAILED},
         ("UNKNOWN", "unknown", ago(100), "REFUSED: rejected (401)",
          "check the connection: fastmon-client status")),
        ({"connection": connection("REFUSED", "rejected (401)")},
         ("DEGRADED", "warning", ago(100),
          "the stream is lost (rejected (401)): numbers come from the tables, late",
          "check the stream: fastmon-client status")),
        ({"runs": [whole_run(verified="UNKNOWN", doubt="not compared yet")]},
         ("UNKNOWN", "unknown", None, "run 100014: not compared yet", "")),
        ({"runs": [whole_run(stfs_missing=None)]},
         ("UNKNOWN", "unknown", None, "run 100014: number of missing STFs unknown", "")),
        ({"runs": [whole_run("2"), whole_run("1", verified="UNKNOWN", doubt="why")]},
         ("UNKNOWN", "unknown", None, "run 1: why", "")),
        ({"runs": [whole_run(tf_files=0, last_at=None)]},
         ("UNKNOWN", "unknown", None, "run 100014 has begun: no TF file yet", "")),
        ({"warnings": ["usually 9", "more"]}, ("DEGRADED", "warning", None, "usually 9", "see the alarm")),
    ],
)  # fmt: skip
def test_every_word_of_a_verdict(changes: Any, expected: tuple[Any, ...]) -> None:
    assert said(**changes) == expected


def tiles(**changes: Any) -> dict[str, tuple[str, str]]:
    """State and text of each tile."""
    _, found = judge(facts(**changes))
    return {name: (tile["state"], tile["text"]) for name, tile in found.items()}  # type: ignore[index]


GOOD = {
    "flow": ("good", "11.6 TF files/s, the last 2 s ago"), "missing": ("good", "none in run 100014"),
    "daemon": ("good", "fastmon-agent-a-1 on daq7: all well"), "monitor": ("good", "stream and tables answer"),
}  # fmt: skip
LATER = {"missing": ("good", "none in run 2")}
LONG_OVER = {"state": "complete", "ended_at": ago(9 * 3600)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"runs": []}, {"flow": ("unknown", "no run takes data"), "missing": ("unknown", "no run")}),
        ({"runs": [whole_run(state="paused")]}, {"flow": ("unknown", "run 100014 is paused")}),
        ({"runs": [stopped_run()]}, {"flow": ("bad", "run 100014: no TF file for 1 min 20 s")}),
        ({"runs": [stopped_run(last_at=None, began_at=ago(3700))]},
         {"flow": ("bad", "run 100014: no TF file for 1 h 1 min")}),
        ({"runs": [whole_run(tf_files=0, last_at=None)]},
         {"flow": ("unknown", "run 100014 has begun: no TF file yet")}),
        ({"runs": [whole_run("2"), whole_run("1", last_at=ago(1))]},
         {"flow": ("good", "23.2 TF files/s, the last 1 s ago"), "missing": ("good", "none in run 2, 1")}),
        ({"runs": [whole_run("4"), whole_run("3"), whole_run("2"), whole_run("1", rate_hz=0.0)]},
         {"flow": ("good", "34.8 TF files/s, the last 2 s ago"), "missing": ("good", "none in run 4, 3, 2 ...")}),
        ({"runs": [whole_run("2"), whole_run("1", **LONG_OVER)], "warnings": ["w"]},
         {"flow": ("warning", "11.6 TF files/s, the last 2 s ago"), **LATER}),
        ({"runs": [whole_run("2"), whole_run("1", state="ended", ended_at=None, stfs_missing=2)]}, LATER),
        ({"runs": [whole_run("2"), whole_run("1", state="ended", ended_at=ago(8 * 3600), stfs_missing=2)]}, LATER),
        ({"runs": [whole_run("2"), whole_run("1", state="ended", ended_at=ago(8 * 3600 - 1), stfs_incomplete=1)]},
         {"missing": ("warning", "1 STF of run 1")}),
        ({"runs": [run("2", last_at=ago(2)), run("1"), run("0")]},
         {"flow": ("good", "34.8 TF files/s, the last 2 s ago"),
          "missing": ("warning", "12 STFs of run 2 and 2 more runs")}),
        ({"runs": [whole_run(stfs_missing=None, stfs_incomplete=2)]}, {"missing": ("warning", "2 STFs of run 100014")}),
        ({"runs": [whole_run(stfs_missing=None)]},
         {"missing": ("unknown", "run 100014: number of missing STFs unknown")}),
        ({"daemons": []}, {"daemon": ("bad", "no daemon reports to the monitor")}),
        ({"daemons": [daemon(), daemon(name="b", host=None, state="warning", text="late")]},
         {"daemon": ("warning", "b: late")}),
        ({"daemons": [daemon(), daemon(name="b", host=None)]},
         {"daemon": ("good", "fastmon-agent-a-1 on daq7: all well; b: all well")}),
        ({"daemons": [silent(), daemon(name="b", state="warning")]},
         {"daemon": ("bad", "fastmon-agent-a-1 on daq7 is silent")}),
        ({"agents_are_known": False},
         {"daemon": ("unknown", "whether a daemon lives is unknown: agents: not read yet")}),
        ({"connection": DEAD}, {"monitor": ("bad", "stream: DEAD: reset; tables: read 0 s ago")}),
        ({"connection": connection("DEAD")}, {"monitor": ("bad", "stream: DEAD: no response; tables: read 0 s ago")}),
        ({"connection": connection("CONNECTING", "login page")},
         {"monitor": ("unknown", "stream: login page; tables: read 0 s ago")}),
        ({"tables": FAILED}, {"monitor": ("bad", "stream: LIVE; tables: monitor answered 500 to /api/runs/")}),
        ({"tables": TablesStatus(read_at=AT - timedelta(seconds=83))}, {}),
    ],
)  # fmt: skip
def test_every_word_of_the_tiles(changes: Any, expected: dict[str, tuple[str, str]]) -> None:
    assert tiles(**changes) == GOOD | expected


def test_the_numbers_of_the_tiles() -> None:
    runs = [run("2", last_at=ago(2)), whole_run("1", last_at=ago(9), rate_hz=0.1236), whole_run("0", last_at=None)]
    daemons = [
        daemon(backlog=3, heartbeat_age_s=7.0), daemon(name="b", backlog=4, heartbeat_age_s=5.0),
        daemon(name="c", backlog=None), silent(backlog=100, heartbeat_age_s=70.0),
    ]  # fmt: skip
    _, found = judge(facts(runs=runs, daemons=daemons))
    flow, missing, tile, monitor = found["flow"], found["missing"], found["daemon"], found["monitor"]
    assert (flow["rate_hz"], flow["last_tf_file_at"], flow["age_s"]) == (23.324, ago(2), 2.0)
    assert (missing["count"], missing["run"]) == (4, "2")
    assert (tile["backlog"], tile["heartbeat_age_s"], tile["agents"]) == (7, 5.0, daemons)
    assert monitor["tables"] == {"state": "good", "text": "read 0 s ago"}
    _, found = judge(facts(runs=[], daemons=[]))
    assert (found["flow"]["age_s"], found["flow"]["last_tf_file_at"]) == (None, None)
    assert (found["daemon"]["backlog"], found["daemon"]["heartbeat_age_s"]) == (None, None)
    _, found = judge(facts(runs=[whole_run(last_at=ago(-5))]))
    assert (found["flow"]["age_s"], found["missing"]["count"], found["missing"]["run"]) == (0.0, 0, None)
    _, found = judge(facts(runs=[whole_run(verified="UNKNOWN")]))
    assert (found["missing"]["count"], found["missing"]["run"]) == (None, "100014")
