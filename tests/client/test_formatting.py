"""Messages as text and JSON lines, filters, counts."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastmon_client.app_state import AppState
from fastmon_client.formatting import (
    age,
    clock_time,
    count_of,
    escape,
    gaps,
    lag,
    line,
    of,
    short_age,
    size,
    status_line,
    volume,
)
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.message_filter import MessageFilter
from fastmon_client.output import JsonLines, Lines, Quiet
from fastmon_client.stream import message_of
from fastmon_client.summary import summary_lines
from fastmon_client.tffile import file_size, run_of
from fastmon_daemon.engine.steps import tf_file_registered
from fastmon_daemon.outbox import Origin, Tf
from tests.builders import FakeTestbed, logged, named
from tests.client.snapshots import run, snapshot, verdict
from tests.client.state_driver import T0, StateDriver

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TF = {
    "msg_type": "tf_file_registered", "namespace": "ns", "run_id": "7", "processed_by": "fastmon-agent-1",
    "tf_file_id": "a", "tf_filename": "a.tf", "stf_filename": "a.stf", "file_size_bytes": 1500,
}  # fmt: skip


def test_announcement_of_the_daemon_is_shown_and_counted_once(tmp_path):
    testbed = FakeTestbed(tmp_path)
    with closing(testbed.outbox()) as outbox:
        stf = named(outbox, testbed.receive(outbox, origin=Origin.RECOVERED))
    tf = Tf(
        sequence=1, filename="swf.100014.000001_tf_001.tf", first=1, last=20, count=20, size_bytes=2_500_000,
        monitor_id="5b0e6c1c-7d3f-4a53-9a55-aa1ab5d2f6f3",
    )  # fmt: skip
    body, _ = tf_file_registered(replace(stf, tfs=(tf,)), tf, "fastmon", 0.1, NOON + timedelta(seconds=1))
    message = json.loads(body)
    filter_ = MessageFilter(types=("tf_file_registered",), agents=("fast*",), run_ids=("100014",), namespace="ns")
    state = AppState("", filter_, NOON)
    assert [state.receive(message, NOON + timedelta(seconds=second)) for second in (2, 3)] == [True, False]
    assert line(message) == (
        "12:00:01  run 100014  swf.100014.000001_tf_001.tf  TF 1-20  2.5 MB  of swf.100014.000001.stf  late"
    )
    assert summary_lines(state.snapshot(NOON + timedelta(seconds=3))) == [
        "3 s: 1 TF files, 2.5 MB, 0 backfilled, 1 repeated",
        "run 100014 unknown: 1 TF files of 1 STFs, 2.5 MB, missing unknown; UNKNOWN: not yet compared with the monitor",
    ]


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\rb", "a\nb", "\u2028", "\u202e", "\ud800", "\x9b1m"])
def test_control_characters_are_escaped(hostile):
    everywhere = dict.fromkeys([*TF, "timestamp", "tf_first", "tf_last"], hostile) | {"msg_type": TF["msg_type"]}
    state = AppState("", MessageFilter(types=()), NOON)
    state.receive(everywhere, NOON)
    state.lost(hostile, NOON)
    summary = summary_lines(state.snapshot(NOON))
    shown = [escape(hostile), line(everywhere), line(TF | {"msg_type": hostile, "status": hostile}), *summary]
    assert all(text.isprintable() for text in shown)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (999_960, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (10**12, "1.0 TB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_size_uses_powers_of_1000(count, text):
    assert size(count) == text


@pytest.mark.parametrize("strange", [None, True, -1, 10**400, "12", 1.5, [1]])
def test_invalid_size_is_unknown_and_adds_nothing(strange):
    assert file_size({"file_size_bytes": strange}) is None
    state = AppState("", MessageFilter(types=("tf_file_registered",)), NOON)
    assert state.receive(TF | {"file_size_bytes": strange}, NOON)
    assert state.runs["7"].volume == 0


@pytest.mark.parametrize(
    "message", [{"run_id": 7}, {"run_id": "7"}, {"run_number": 7}, {"run_id": None, "run_number": 7}]
)
def test_run_number_and_string_are_the_same_run(message):
    assert run_of(message) == "7"


def test_filter_matches_by_each_option():
    def matches(message, **filter_):
        return MessageFilter(**{"types": ("tf_file_registered",)} | filter_).matches(message)

    end = {"msg_type": "end_run", "run_id": 7, "processed_by": None, "namespace": "ns"}
    assert matches(TF)
    assert matches(end)
    assert not matches(TF, types=("fastmon_status",))
    assert matches(end, types=("fastmon_status",))
    assert matches(TF, agents=("other", "fastmon-agent-*"))
    assert not matches(TF, agents=("other",))
    assert matches(end, agents=("other",))
    assert not matches(end, run_ids=("8",))
    assert not matches(TF | {"run_id": None}, run_ids=("None",))
    assert matches(end, namespace="ns")
    assert not matches(end, namespace="other")


def test_run_events_are_always_subscribed():
    assert MessageFilter(types=("a", "end_run")).subscribed_types == (
        "a", "end_run", "run_imminent", "start_run", "pause_run", "resume_run", "stf_gen", "fastmon_status",
        "fastmon_run_summary",
    )  # fmt: skip


def test_tf_file_without_name_or_id_is_counted_each_time():
    state = AppState("", MessageFilter(types=("tf_file_registered",)), NOON)
    message = {"msg_type": "tf_file_registered", "run_id": 1}
    assert [state.receive(message, NOON) for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0 ms"), (0.085, "85 ms"), (0.1, "0.10 s"), (0.123, "0.12 s"), (9.99, "9.99 s"), (10, "10 s"),
     (10.9, "10 s"), (75.0, "1 min 15 s")],
)  # fmt: skip
def test_lag_has_the_unit_that_suits_it(seconds, text):
    assert lag(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (None, "?", "-"), (-5, "0 s", "0s"), (59.9, "59 s", "59s"), (60, "1 min 0 s", "1m"),
        (3599, "59 min 59 s", "59m"), (3600, "1 h 0 min", "1h"), (86399, "23 h 59 min", "23h"),
        (86400, "1 d 0 h", "1d"), (2 * 86400 + 7205, "2 d 2 h", "2d"),
    ],
)  # fmt: skip
def test_an_age_has_its_largest_units(seconds, text, short):
    assert (age(seconds), short_age(seconds)) == (text, short)


def test_counts_and_times_are_in_words():
    assert [count_of(count, "STF") for count in (0, 1, 2)] == ["0 STFs", "1 STF", "2 STFs"]
    assert [volume(*each) for each in ((5, 0), (5, 1), (None, 1))] == ["5 B", "≥5 B", "?"]
    assert (of(1, None), of(1, 2)) == ("1", "1/2")
    times = ("2026-11-21T20:56:56.120+01:00", "x", "", None)
    assert [clock_time(each) for each in times] == ["20:56:56", "-", "-", "-"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (TF | {"sent_at": "2026-11-21T12:00:01+00:00", "tf_first": 1},
         "12:00:01  run 7  a.tf  TF 1-?  1.5 kB  of a.stf"),
        (TF | {"run_id": None, "late": True, "tf_last": 2}, "-  run -  a.tf  TF ?-2  1.5 kB  of a.stf  late"),
        ({"msg_type": "end_run", "run_id": 7, "total_stf_files": 0, "reason": None, "message": "m", "status": ""},
         "-  run 7  end_run  status=  message=m  total_stf_files=0"),
        ({"msg_type": "end_run", "reason": "beam lost"}, "-  run -  end_run  reason=beam lost"),
        ({"msg_type": "pause_run", "run_id": 7, "timestamp": "2026-11-21T12:00:01"}, "12:00:01  run 7  pause_run"),
    ],
)  # fmt: skip
def test_every_word_of_the_line_of_a_message(message, text):
    assert line(message) == text


def test_text_output_has_a_line_of_status_a_minute(capsys):
    driver, lines = StateDriver(types=(), status_s=60.0), Lines()
    driver.send_run_event("start_run")
    driver.tf(1, 1)
    for number in (1, 2):
        driver.tf(3, number)
    driver.compare([1, 2, 3], {})
    for _ in range(122):
        driver.wait(1)
        driver.state.tick(driver.now)
        lines.update(driver.state, driver.now)
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "12:01:01  NOT FLOWING  0.0 TF files/s  run 7 running, 1 STF missing: 2  "
        "(no STF of run 7 is registered: the DAQ or the data agent is silent)"
    )
    assert second.startswith("12:02:01  ")


@pytest.mark.parametrize(("changes", "text"), [
    ({}, "20:56:56  DEGRADED  11.6 TF files/s  run 100014 running, 3 STFs missing: 12, 15-16  (3 STFs of run 100014"),
    ({"runs": []}, "20:56:56  DEGRADED  11.6 TF files/s  (3 STFs"),
    ({"runs": [run(stfs_missing=None, missing=[], state="paused")]}, "run 100014 paused, missing UNKNOWN"),
    ({"runs": [run(state="ended"), run("1", state="ended")]}, "run 100014 ended, 3 STFs missing: 12, 15-16  ("),
    ({"runs": [run(str(n)) for n in range(8)]}, "run 4 running, 3 STFs missing: 12, 15-16  and 3 more runs  ("),
    ({"verdict": verdict("FLOWING"), "runs": [run("\x1b", stfs_missing=0, missing=[])]}, "run \\x1b running, 0"),
])  # fmt: skip
def test_line_of_status(changes, text):
    assert text in status_line(snapshot(**changes))


def test_every_word_of_the_line_of_status():
    runs = [
        run("6", state="paused"),
        *(run(str(n), stfs_missing=0, missing=[]) for n in range(5)),
        run("9", state="ended"),
    ]
    assert status_line(snapshot(runs=runs)) == (
        "20:56:56  DEGRADED  11.6 TF files/s  run 6 paused, 3 STFs missing: 12, 15-16  "
        "run 0 running, 0 STFs missing  run 1 running, 0 STFs missing  run 2 running, 0 STFs missing  "
        "run 3 running, 0 STFs missing  and 1 more run  (3 STFs of run 100014 are missing: 12, 15-16)"
    )
    calm = snapshot(runs=[run("1", state="imminent", stfs_missing=1, missing=[])], verdict=verdict("FLOWING"))
    assert status_line(calm) == "20:56:56  FLOWING  11.6 TF files/s  run 1 imminent, 1 STF missing"


def test_gaps_are_formatted_as_ranges():
    assert gaps([1, 2, 3, 7, 9, 10]) == ["1-3", "7", "9-10"]


@pytest.mark.parametrize(
    "body",
    [
        '{"msg_type": "tf_file_registered", "tf_filename": "a.tf"}',
        '{"msg_type": "x", "kind": "mine", "backfilled": 7}',
        '{"msg_type": "x", "value": NaN}',
        '{"msg_type": "\\u00e9"}',
        '{"msg_type": "é\u2028"}',
        '{"msg_type":\n"x"}',
        '{"msg_type":\r"x", "value": -Infinity}',
        '{"msg_type":\t"INFO\x7f"}',
        " {} ",
    ],
)
def test_json_line_is_the_message_plus_two_members(body, capsys):
    message = message_of(body, LogThrottle())
    output = JsonLines()
    output.write(message, backfilled=True)
    output.flush()
    [line] = capsys.readouterr().out.splitlines()
    kind = "tf_file" if "tf_file" in body else "message"
    assert json.loads(line, parse_constant=pytest.fail) == {**message, "kind": kind, "backfilled": True}


def test_number_outside_json_is_null(capsys):
    output = JsonLines()
    output.write({"msg_type": "x", "a": float("inf"), "b": [float("nan")], "c": 1.5}, backfilled=True)
    output.flush()
    [text] = capsys.readouterr().out.splitlines()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "msg_type": "x", "a": None, "b": [None], "c": 1.5, "kind": "message", "backfilled": True,
    }  # fmt: skip


def json_lines_of_update(
    output: JsonLines, driver: StateDriver, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, Any]]:
    """The JSON lines of one update."""
    driver.state.tick(driver.now)
    output.update(driver.state, driver.now)
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def test_json_lines_report_each_change_of_a_run(capsys):
    driver, output = StateDriver(), JsonLines()
    driver.send_run_event("start_run")
    driver.tf(1, tf_total=1)
    assert {each["kind"] for each in json_lines_of_update(output, driver, capsys)} == {"connection", "run"}
    driver.tf(2, tf_total=1)
    assert json_lines_of_update(output, driver, capsys) == []  # only counts changed
    driver.wait(40)
    driver.compare([1, 2], {1: 1, 2: 1})
    [run] = json_lines_of_update(output, driver, capsys)
    assert (run["kind"], run["verified"], run["doubt"], run["verified_at"]) == (
        "run", "VERIFIED", "", driver.now.isoformat(),
    )  # fmt: skip
    assert "strip" not in run
    driver.state.finish_comparison("7", "the monitor said 500", driver.now)
    run, alarm = json_lines_of_update(output, driver, capsys)
    assert (run["kind"], run["verified"], run["doubt"]) == ("run", "UNKNOWN", "the monitor said 500")
    assert (alarm["kind"], alarm["alarm"], alarm["until"]) == ("alarm", "monitor_unreachable", None)
    driver.state.finish_comparison("7", "the monitor said 502", driver.now)
    assert [each["doubt"] for each in json_lines_of_update(output, driver, capsys)] == ["the monitor said 502"]
    driver.compare([1, 2, 3], {1: 1, 2: 1})
    run, *alarms = json_lines_of_update(output, driver, capsys)
    assert (run["verified"], run["missing"], run["stfs_missing"]) == ("VERIFIED", [3], 1)
    assert [(each["alarm"], bool(each["until"])) for each in alarms] == [
        ("stfs_missing", False), ("monitor_unreachable", True),
    ]  # fmt: skip
    driver.send_run_event("pause_run")
    assert [each["state"] for each in json_lines_of_update(output, driver, capsys)] == ["paused"]


def test_json_lines_report_each_change_of_the_connection(capsys):
    driver, output = StateDriver(), JsonLines()
    assert [each["state"] for each in json_lines_of_update(output, driver, capsys)] == ["LIVE"]
    driver.state.lost("reset by peer", driver.now)
    connection, alarm = json_lines_of_update(output, driver, capsys)
    assert (connection["kind"], connection["state"], connection["reason"]) == ("connection", "DEAD", "reset by peer")
    assert alarm["evidence"] == "reset by peer"
    driver.state.lost("connection refused", driver.now)
    assert [each["reason"] for each in json_lines_of_update(output, driver, capsys)] == ["connection refused"]


def test_each_run_is_reported_once(capsys):
    driver, output = StateDriver(), JsonLines()
    for hour in range(60):
        driver.now = T0 + timedelta(hours=hour)
        driver.receive(msg_type="end_run", run_id=f"test-{hour}")
        assert f"test-{hour}" in [each.get("run") for each in json_lines_of_update(output, driver, capsys)]
        assert json_lines_of_update(output, driver, capsys) == []
    driver.receive(msg_type="end_run", run_id="test-0")
    assert json_lines_of_update(output, driver, capsys) == []


def test_new_alarms_are_logged_oldest_first_with_one_bell(capsys):
    driver, output = StateDriver(), Quiet(bell=True)
    for agent in ("a", "b"):
        driver.receive(msg_type="fastmon_status", processed_by=agent, status="degraded")
        driver.wait(1)
    with logged() as lines:
        output.update(driver.state, driver.now)
        output.update(driver.state, driver.now)
    assert lines == [f"alarm daemon_degraded: {agent} degraded\n" for agent in ("a", "b")]
    assert capsys.readouterr().err.count("\a") == 1
