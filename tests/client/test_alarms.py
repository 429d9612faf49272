"""What is worth an alarm, how long it is shown; the state of the stream, which most of them hang on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.client.told import LONG_AGO, T0, Told, stf


def shown(told: Told) -> list[dict[str, Any]]:
    """The alarms of the snapshot."""
    told.state.tick(told.now)
    return [dict(alarm) for alarm in told.state.snapshot(told.now)["alarms"]]


def connection(told: Told) -> dict[str, Any]:
    return dict(told.state.snapshot(told.now)["connection"])


def brings_a_tf_file_a_second(told: Told, seconds: int) -> None:
    told.says("start_run")
    for second in range(seconds):
        told.tf(second + 1, tf_total=1)
        told.wait(1)


# Their life


def test_an_alarm_stays_a_while_after_it_is_over():
    told = Told()
    told.state.lost("x", told.now)
    told.alarms()
    told.state.connected(told.now)
    told.alarms()
    assert [alarm["until"] for alarm in told.state.snapshot(told.now)["alarms"]] == [T0.isoformat()]
    told.wait(601)
    assert told.state.snapshot(told.now)["alarms"] == []


def test_what_lasts_is_shown_first_and_then_the_newest():
    told = Told()
    for agent in ("a", "b"):
        told.hear(msg_type="fastmon_status", processed_by=agent, status="degraded")
        told.wait(1)
    for agent in ("c", "d"):
        told.hear(msg_type="fastmon_status", processed_by=agent, status="degraded")
        told.wait(1)
        told.hear(msg_type="fastmon_status", processed_by=agent, status="ok")
        told.wait(1)
    assert [alarm["evidence"][0] for alarm in shown(told)] == ["b", "a", "d", "c"]


def test_an_alarm_that_lasts_begins_once_and_tells_the_newest_evidence():
    told = Told()
    told.hear(msg_type="fastmon_status", processed_by="a", status="degraded", message="first")
    since = told.now.isoformat()
    told.wait(5)
    told.hear(msg_type="fastmon_status", processed_by="a", status="degraded", message="second")
    [alarm] = shown(told)
    assert (alarm["since"], alarm["evidence"]) == (since, "a degraded: second")
    assert told.state.alarms.raised == 1


def test_of_those_that_are_over_the_last_100_are_shown():
    told = Told()
    for number in range(120):
        for status in ("degraded", "ok"):
            told.hear(msg_type="fastmon_status", processed_by=f"agent-{number}", status=status)
    found = shown(told)
    assert len(found) == 100
    assert found[0]["evidence"].startswith("agent-119 ")


def test_the_alarms_of_a_run_end_when_only_its_row_is_kept_and_those_of_others_last():
    told = Told()
    told.hear(msg_type="tf_file_registered", run_id="test", tf_filename="a.tf", stf_filename="a.1.stf")
    told.wait(60.5)
    told.state.receive_heartbeat(told.now)
    told.hear(msg_type="fastmon_status", processed_by="a", status="degraded")
    assert told.alarms() == ["daemon_degraded", "run_stale"]
    told.wait(540)
    told.state.receive_heartbeat(told.now)
    for number in range(1, 9):
        told.hear(msg_type="run_imminent", run_id=number, namespace=f"ns{number}")
    told.state.tick(told.now)
    assert "test" not in told.state.runs
    assert told.alarms() == ["daemon_degraded"]
    assert [alarm["run"] for alarm in shown(told) if alarm["until"]] == ["test"]


# What is one


def test_a_rate_that_drops_below_half_of_the_usual_is_an_alarm():
    told = Told()
    brings_a_tf_file_a_second(told, 300)
    assert told.alarms() == []
    for second in range(20):
        told.tf(1000 + second)
        told.wait(3.5)
    assert told.alarms() == ["rate_dropped"]
    told.says("end_run")
    assert told.alarms() == []


def test_a_rate_that_drops_a_little_is_none():
    told = Told()
    brings_a_tf_file_a_second(told, 300)
    for second in range(50):
        told.tf(1000 + second)
        told.wait(1.5)
    assert told.alarms() == []


def test_a_rate_that_dropped_because_the_run_is_stale_is_one_alarm_and_not_two():
    told = Told()
    brings_a_tf_file_a_second(told, 300)
    told.wait(65)
    told.state.receive_heartbeat(told.now)
    assert told.alarms() == ["run_stale"]


@pytest.mark.parametrize("silence_s", [40, 70])
def test_what_a_lost_stream_would_have_told_is_no_alarm_of_the_run(silence_s):
    told = Told()
    brings_a_tf_file_a_second(told, 300)
    told.state.lost("reset by peer", told.now)
    told.wait(silence_s)
    assert told.alarms() == ["stream_dead"]


def test_missing_stfs_are_named_by_number_five_at_most():
    told = Told()
    told.tf(1, tf_total=1)
    told.wait(40)
    told.compare([*range(1, 5)], {1: 1})
    [alarm] = shown(told)
    assert (alarm["run"], alarm["evidence"]) == ("7", "3 STFs without TF files: 2, 3, 4")
    told.compare([*range(1, 9)], {1: 1})
    assert shown(told)[0]["evidence"] == "7 STFs without TF files: 2, 3, 4, 5, 6 ..."


def test_a_missing_stf_without_a_number_is_counted_and_not_named():
    told = Told()
    told.tf(1, tf_total=1)
    told.wait(40)
    told.state.listed("7", [(stf(1), LONG_AGO), ("no-number", LONG_AGO)], told.now)
    told.state.filled("7", "no-number", [], told.now)
    told.state.compared("7", None, told.now)
    assert [alarm["evidence"] for alarm in shown(told)] == ["1 STFs without TF files"]


def test_while_the_numbers_are_in_doubt_the_alarm_of_what_is_missing_stands_as_it_was():
    told = Told()
    told.tf(1, tf_total=1)
    told.wait(40)
    told.compare([1, 2], {1: 1})
    assert told.alarms() == ["stfs_missing"]
    told.state.lost("reset by peer", told.now)
    told.state.connected(told.now)
    told.tf(2, tf_total=1)
    assert told.row["verified"] == "UNKNOWN"
    assert told.alarms() == ["stfs_missing"]
    told.compare([1, 2], {1: 1, 2: 1})
    assert told.alarms() == []


@pytest.mark.parametrize(
    ("status", "is_busy", "expected"),
    [
        ("stopped", True, ["daemon_degraded"]), ("stopped", False, []), ("degraded", False, ["daemon_degraded"]),
        ("ok", True, []),
    ],
)  # fmt: skip
def test_a_daemon_that_stops_is_an_alarm_only_while_there_is_a_run(status, is_busy, expected):
    told = Told()
    told.says("start_run")
    if not is_busy:
        told.says("end_run")
    told.hear(msg_type="fastmon_status", processed_by="a", status=status)
    assert told.alarms() == expected


def test_daemons_are_told_from_each_other_by_the_agent_not_by_who_sent_the_message():
    told = Told()
    told.hear(msg_type="fastmon_status", processed_by="a", sender="x", status="degraded")
    told.hear(msg_type="fastmon_status", processed_by="b", sender="x", status="ok")
    assert told.alarms() == ["daemon_degraded"]
    told.hear(msg_type="fastmon_status", sender="a", status="ok")
    assert told.alarms() == []


def test_a_table_of_runs_that_cannot_be_read_is_an_alarm_until_it_can():
    told = Told()
    told.state.compared_runs("the monitor said 500 to /api/runs/", told.now)
    assert told.alarms() == ["monitor_unreachable"]
    told.state.runs_listed([], told.now)
    assert told.alarms() == []


# The stream


def test_a_stream_that_was_never_there_is_being_connected_and_after_75_s_an_alarm():
    told = Told(connected=False)
    told.wait(75)
    assert (connection(told)["state"], told.alarms()) == ("CONNECTING", [])
    told.wait(1)
    assert (told.alarms(), shown(told)[0]["evidence"]) == (["stream_dead"], "no answer")
    told.state.lost("Connection refused", told.now)
    assert (connection(told)["state"], shown(told)[0]["evidence"]) == ("CONNECTING", "Connection refused")


def test_reconnects_are_counted_and_neither_the_first_connection_nor_a_renewal_is_one():
    told = Told(connected=False)
    for lost, expected in ((False, 0), (False, 0), (True, 1)):
        if lost:
            told.state.lost("reset by peer", told.now)
        told.state.connected(told.now)
        assert connection(told)["reconnects"] == expected


def test_the_state_of_the_stream_lasts_since_it_began():
    told = Told()
    told.wait(5)
    told.state.lost("reset by peer", told.now)
    told.wait(5)
    told.state.lost("Connection refused", told.now)
    found = connection(told)
    assert (found["since"], found["reason"]) == ((T0 + timedelta(seconds=5)).isoformat(), "Connection refused")


@pytest.mark.parametrize("end", ["lost", "refused"])
def test_what_still_came_from_a_stream_that_is_over_does_not_make_it_live(end):
    told = Told()
    getattr(told.state, end)("reset by peer", told.now)
    state = connection(told)["state"]
    told.tf(1)
    assert connection(told)["state"] == state != "LIVE"


def test_a_message_is_as_good_as_a_heart_beat():
    told = Told()
    told.wait(70)
    told.tf(1)
    assert connection(told)["heartbeat_age_s"] == 0
    told.wait(70)
    assert told.alarms() == ["run_stale"]
    told.wait(6)
    assert "stream_dead" in told.alarms()
    told.tf(2)
    assert connection(told)["state"] == "LIVE"


def test_a_stream_that_is_opened_counts_as_heard():
    told = Told()
    assert connection(told)["heartbeat_age_s"] == 0
    told.state.receive_heartbeat(told.now)
    told.wait(70)
    told.state.connected(told.now)
    told.wait(70)
    assert told.alarms() == []


def test_a_refused_token_and_a_stream_without_heart_beat_make_the_numbers_unknown():
    for end in (lambda told: told.state.refused("the token", told.now), lambda told: told.wait(76)):
        told = Told()
        told.tf(1, tf_total=1)
        told.compare([1], {1: 1})
        assert told.row["verified"] == "VERIFIED"
        end(told)
        told.alarms()
        assert told.row["verified"] == "UNKNOWN"
