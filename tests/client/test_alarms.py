"""Alarms: rules and lifetime; and the state of the stream."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.client.state_driver import LONG_AGO, T0, StateDriver, stf


def shown(driver: StateDriver) -> list[dict[str, Any]]:
    """The alarms of the snapshot."""
    driver.state.tick(driver.now)
    return [dict(alarm) for alarm in driver.state.snapshot(driver.now)["alarms"]]


def connection(driver: StateDriver) -> dict[str, Any]:
    return dict(driver.state.snapshot(driver.now)["connection"])


def receive_one_tf_file_per_second(driver: StateDriver, seconds: int) -> None:
    driver.send_run_event("start_run")
    for second in range(seconds):
        driver.tf(second + 1, tf_total=1)
        driver.wait(1)


# Lifetime


def test_ended_alarm_stays_visible_for_10_minutes():
    driver = StateDriver()
    driver.state.lost("x", driver.now)
    driver.alarms()
    driver.state.connected(driver.now)
    driver.alarms()
    assert [alarm["until"] for alarm in driver.state.snapshot(driver.now)["alarms"]] == [T0.isoformat()]
    driver.wait(601)
    assert driver.state.snapshot(driver.now)["alarms"] == []


def test_active_alarms_come_first_newest_first():
    driver = StateDriver()
    for agent in ("a", "b"):
        driver.receive(msg_type="fastmon_status", processed_by=agent, status="degraded")
        driver.wait(1)
    for agent in ("c", "d"):
        driver.receive(msg_type="fastmon_status", processed_by=agent, status="degraded")
        driver.wait(1)
        driver.receive(msg_type="fastmon_status", processed_by=agent, status="ok")
        driver.wait(1)
    assert [alarm["evidence"] for alarm in shown(driver)] == [f"{agent} degraded" for agent in ("b", "a", "d", "c")]


@pytest.mark.field("30")
@pytest.mark.parametrize(
    ("status", "message", "evidence"),
    [
        ("degraded", "monitor blocked: GET http://m: 403", "monitor blocked: GET http://m: 403 (a degraded)"),
        ("degraded", None, "a degraded"),
        ("degraded", "degraded", "a degraded"),
    ],
)
def test_the_alarm_of_a_daemon_says_its_cause_once_and_first(status, message, evidence):
    driver = StateDriver()
    driver.receive(msg_type="start_run", run_id="1")
    driver.receive(msg_type="fastmon_status", processed_by="a", status=status, message=message)
    assert [alarm["evidence"] for alarm in shown(driver)] == [evidence]


def test_active_alarm_is_raised_once_and_updates_its_evidence():
    driver = StateDriver()
    driver.receive(msg_type="fastmon_status", processed_by="a", status="degraded", message="first")
    since = driver.now.isoformat()
    driver.wait(5)
    driver.receive(msg_type="fastmon_status", processed_by="a", status="degraded", message="second")
    [alarm] = shown(driver)
    assert (alarm["since"], alarm["evidence"]) == (since, "second (a degraded)")
    assert driver.state.alarms.raised == 1


def test_last_100_ended_alarms_are_kept():
    driver = StateDriver()
    for number in range(120):
        for status in ("degraded", "ok"):
            driver.receive(msg_type="fastmon_status", processed_by=f"agent-{number}", status=status)
    found = shown(driver)
    assert len(found) == 100
    assert found[0]["evidence"].startswith("agent-119 ")


def test_dropping_a_run_ends_its_alarms_only():
    driver = StateDriver()
    driver.receive(msg_type="tf_file_registered", run_id="test", tf_filename="a.tf", stf_filename="a.1.stf")
    driver.wait(60.5)
    driver.state.receive_heartbeat(driver.now)
    driver.receive(msg_type="fastmon_status", processed_by="a", status="degraded")
    assert driver.alarms() == ["daemon_degraded", "run_stale"]
    driver.wait(540)
    driver.state.receive_heartbeat(driver.now)
    for number in range(1, 9):
        driver.receive(msg_type="run_imminent", run_id=number, namespace=f"ns{number}")
    driver.state.tick(driver.now)
    assert "test" not in driver.state.runs
    assert driver.alarms() == ["daemon_degraded"]
    assert [alarm["run"] for alarm in shown(driver) if alarm["until"]] == ["test"]


# Rules


def test_rate_below_half_of_the_median_is_an_alarm():
    driver = StateDriver()
    receive_one_tf_file_per_second(driver, 300)
    assert driver.alarms() == []
    for second in range(20):
        driver.tf(1000 + second)
        driver.wait(3.5)
    assert driver.alarms() == ["rate_dropped"]
    driver.send_run_event("end_run")
    assert driver.alarms() == []


def test_small_rate_drop_is_no_alarm():
    driver = StateDriver()
    receive_one_tf_file_per_second(driver, 300)
    for second in range(50):
        driver.tf(1000 + second)
        driver.wait(1.5)
    assert driver.alarms() == []


def test_stale_run_has_no_rate_alarm():
    driver = StateDriver()
    receive_one_tf_file_per_second(driver, 300)
    driver.wait(65)
    driver.state.receive_heartbeat(driver.now)
    assert driver.alarms() == ["run_stale"]


@pytest.mark.parametrize("silence_s", [40, 70])
def test_lost_stream_raises_no_run_alarms(silence_s):
    driver = StateDriver()
    receive_one_tf_file_per_second(driver, 300)
    driver.state.lost("reset by peer", driver.now)
    driver.wait(silence_s)
    assert driver.alarms() == ["stream_dead"]


def test_alarm_names_at_most_five_missing_stfs():
    driver = StateDriver()
    driver.tf(1, tf_total=1)
    driver.wait(40)
    driver.compare([*range(1, 5)], {1: 1})
    [alarm] = shown(driver)
    assert (alarm["run"], alarm["evidence"]) == ("7", "3 STFs without TF files: 2, 3, 4")
    driver.compare([*range(1, 9)], {1: 1})
    assert shown(driver)[0]["evidence"] == "7 STFs without TF files: 2, 3, 4, 5, 6 ..."


def test_missing_stf_without_number_is_counted_but_not_named():
    driver = StateDriver()
    driver.tf(1, tf_total=1)
    driver.wait(40)
    driver.state.record_stfs("7", [(stf(1), LONG_AGO), ("no-number", LONG_AGO)], driver.now)
    driver.state.record_tf_files("7", "no-number", [], driver.now)
    driver.state.finish_comparison("7", None, driver.now)
    assert [alarm["evidence"] for alarm in shown(driver)] == ["1 STF without TF files"]


def test_missing_alarm_stays_while_numbers_are_unknown():
    driver = StateDriver()
    driver.tf(1, tf_total=1)
    driver.wait(40)
    driver.compare([1, 2], {1: 1})
    assert driver.alarms() == ["stfs_missing"]
    driver.state.lost("reset by peer", driver.now)
    driver.state.connected(driver.now)
    driver.tf(2, tf_total=1)
    assert driver.row["verified"] == "UNKNOWN"
    assert driver.alarms() == ["stfs_missing"]
    driver.compare([1, 2], {1: 1, 2: 1})
    assert driver.alarms() == []


@pytest.mark.parametrize(
    ("status", "is_busy", "expected"),
    [
        ("stopped", True, ["daemon_silent"]), ("stopped", False, []), ("degraded", False, ["daemon_degraded"]),
        ("ok", True, []),
    ],
)  # fmt: skip
def test_daemon_stop_is_an_alarm_only_during_a_run(status, is_busy, expected):
    driver = StateDriver()
    driver.send_run_event("start_run")
    if not is_busy:
        driver.send_run_event("end_run")
    driver.receive(msg_type="fastmon_status", processed_by="a", namespace="ns", status=status)
    assert driver.alarms() == expected


def test_daemons_are_identified_by_processed_by_not_sender():
    driver = StateDriver()
    driver.receive(msg_type="fastmon_status", processed_by="a", sender="x", status="degraded")
    driver.receive(msg_type="fastmon_status", processed_by="b", sender="x", status="ok")
    assert driver.alarms() == ["daemon_degraded"]
    driver.receive(msg_type="fastmon_status", sender="a", status="ok")
    assert driver.alarms() == []


def test_unreadable_table_of_runs_is_an_alarm():
    driver = StateDriver()
    driver.state.record_runs_query("the monitor said 500 to /api/runs/", driver.now)
    assert driver.alarms() == ["monitor_unreachable"]
    driver.state.record_runs([], driver.now)
    assert driver.alarms() == []


# The state of the stream


def test_stream_never_reached_is_an_alarm_after_75_s():
    driver = StateDriver(connected=False)
    driver.wait(75)
    assert (connection(driver)["state"], driver.alarms()) == ("CONNECTING", [])
    driver.wait(1)
    assert (driver.alarms(), shown(driver)[0]["evidence"]) == (["stream_dead"], "no response")
    driver.state.lost("connection refused", driver.now)
    assert (connection(driver)["state"], shown(driver)[0]["evidence"]) == ("CONNECTING", "connection refused")


def test_only_connections_after_a_loss_count_as_reconnects():
    driver = StateDriver(connected=False)
    for lost, expected in ((False, 0), (False, 0), (True, 1)):
        if lost:
            driver.state.lost("reset by peer", driver.now)
        driver.state.connected(driver.now)
        assert connection(driver)["reconnects"] == expected


def test_repeated_loss_keeps_the_start_of_the_state():
    driver = StateDriver()
    driver.wait(5)
    driver.state.lost("reset by peer", driver.now)
    driver.wait(5)
    driver.state.lost("connection refused", driver.now)
    found = connection(driver)
    assert (found["since"], found["reason"]) == ((T0 + timedelta(seconds=5)).isoformat(), "connection refused")


@pytest.mark.parametrize("end", ["lost", "refused"])
def test_late_message_of_a_closed_stream_does_not_make_it_live(end):
    driver = StateDriver()
    getattr(driver.state, end)("reset by peer", driver.now)
    state = connection(driver)["state"]
    driver.tf(1)
    assert connection(driver)["state"] == state != "LIVE"


def test_message_counts_as_heart_beat():
    driver = StateDriver()
    driver.wait(70)
    driver.tf(1)
    assert connection(driver)["heartbeat_age_s"] == 0
    driver.wait(70)
    assert driver.alarms() == ["run_stale"]
    driver.wait(6)
    assert "stream_dead" in driver.alarms()
    driver.tf(2)
    assert connection(driver)["state"] == "LIVE"


def test_opening_a_stream_counts_as_heart_beat():
    driver = StateDriver()
    assert connection(driver)["heartbeat_age_s"] == 0
    driver.state.receive_heartbeat(driver.now)
    driver.wait(70)
    driver.state.connected(driver.now)
    driver.wait(70)
    assert driver.alarms() == []


def test_rejected_token_or_dead_stream_makes_numbers_unknown():
    for end in (lambda driver: driver.state.refused("the token", driver.now), lambda driver: driver.wait(76)):
        driver = StateDriver()
        driver.tf(1, tf_total=1)
        driver.compare([1], {1: 1})
        assert driver.row["verified"] == "VERIFIED"
        end(driver)
        driver.alarms()
        assert driver.row["verified"] == "UNKNOWN"


# Announcements that do not arrive


@pytest.mark.field("0b")
def test_announcements_that_do_not_arrive_are_an_alarm_with_the_topic() -> None:
    driver = StateDriver(topic="/topic/other")
    driver.send_run_event("start_run")
    driver.compare([1], {1: 2})  # they may be older than the connection
    assert driver.alarms() == []
    driver.wait(30)
    driver.compare([1, 2, 3], {2: 2, 3: 2})
    assert driver.alarms() == ["source_silent"]
    [alarm] = shown(driver)
    assert (
        "no announcement received from /topic/other since 12:00:00 UTC, while the monitor registered 4 TF files"
        in (alarm["evidence"])
    )
    driver.tf(4)
    assert driver.alarms() == []


def test_tf_files_that_are_newer_than_the_connection_need_no_earlier_comparison() -> None:
    driver = StateDriver()
    driver.send_run_event("start_run")
    rows = [
        {"stf_file": stf(1), "tf_filename": f"{number}.tf", "created_at": (T0 + timedelta(seconds=31)).isoformat()}
        for number in range(3)
    ]
    driver.wait(60)
    driver.state.record_tf_files("7", stf(1), rows, driver.now)
    assert driver.alarms() == ["source_silent"]
    assert "from the monitor's stream" in shown(driver)[0]["evidence"]
    driver.wait(601)
    assert "source_silent" not in driver.alarms()


def test_missing_announcements_of_types_that_were_not_requested_are_no_alarm() -> None:
    driver = StateDriver(types=("fastmon_status",))
    driver.send_run_event("start_run")
    driver.compare([1], {1: 2})
    driver.wait(30)
    driver.compare([1, 2, 3], {2: 2, 3: 2})
    assert "source_silent" not in driver.alarms()


@pytest.mark.field("0e")
def test_a_filter_that_matches_no_agent_is_an_alarm_with_the_names_that_are_there() -> None:
    driver = StateDriver(agents=("swf-fastmon-agent",))
    driver.tf(1, processed_by="fastmon-agent-a-1")
    driver.tf(2, processed_by="fastmon-agent-b-2")
    assert driver.alarms() == []
    driver.tf(3, processed_by="fastmon-agent-a-1")
    assert driver.alarms() == ["agents_unmatched"]
    assert shown(driver)[0]["evidence"] == (
        "--agents swf-fastmon-agent matches none of the 3 TF files announced: "
        "their agents are fastmon-agent-a-1, fastmon-agent-b-2"
    )
    driver.tf(4, processed_by="swf-fastmon-agent")
    assert driver.alarms() == []


def test_without_a_filter_every_agent_matches() -> None:
    driver = StateDriver()
    for sequence in range(1, 6):
        driver.tf(sequence, processed_by="fastmon-agent-a-1")
    assert driver.alarms() == []
