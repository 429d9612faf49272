"""The state of the stream, silence of the announcements, agents that no filter matches: every word, every edge."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fastmon_client.connection import Connection
from fastmon_client.intervals import Intervals
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.message_filter import MessageFilter, UnmatchedAgents
from fastmon_client.silence import Silence
from tests.builders import logged
from tests.client.state_driver import T0


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def shown(connection: Connection, at: float) -> tuple[object, ...]:
    return tuple(connection.row(after(at)).values())


def test_the_life_of_a_connection() -> None:
    connection = Connection(T0, Intervals())
    assert shown(connection, 3) == ("CONNECTING", T0.isoformat(), None, 0, "")
    connection.lost("connection refused", after(5))
    assert shown(connection, 6) == ("CONNECTING", T0.isoformat(), None, 0, "connection refused")
    connection.connected(after(10))
    assert shown(connection, 12) == ("LIVE", after(10).isoformat(), 2.0, 0, "")
    connection.record_heartbeat(after(20))
    assert shown(connection, 12) == ("LIVE", after(10).isoformat(), 0.0, 0, "")
    connection.lost("reset", after(30))
    connection.record_heartbeat(after(31))  # a late message of the closed stream
    assert shown(connection, 31) == ("DEAD", after(30).isoformat(), 0.0, 0, "reset")
    connection.connected(after(40))
    connection.connected(after(41))  # it was renewed
    assert shown(connection, 41) == ("LIVE", after(40).isoformat(), 0.0, 1, "")
    connection.refused("rejected (401)", after(50))
    connection.record_heartbeat(after(51))
    assert shown(connection, 51) == ("REFUSED", after(50).isoformat(), 0.0, 1, "rejected (401)")


def test_a_stream_without_heartbeats_is_dead_until_the_next_one() -> None:
    connection = Connection(T0, Intervals())
    connection.connected(T0)
    connection.tick(after(75))
    assert connection.evidence(after(75)) is None
    connection.tick(after(75.1))
    assert shown(connection, 76) == ("DEAD", after(75.1).isoformat(), 76.0, 0, "no heart-beat for 75 s")
    assert connection.evidence(after(76)) == "no heart-beat for 75 s"
    connection.tick(after(90))
    assert connection.reason == "no heart-beat for 75 s"
    connection.record_heartbeat(after(91))
    assert shown(connection, 91) == ("LIVE", after(91).isoformat(), 0.0, 0, "")


@pytest.mark.parametrize(("waited_s", "evidence"), [(75, None), (75.001, "no response")])
def test_a_stream_that_never_opened_is_told_after_75_s(waited_s: float, evidence: str | None) -> None:
    assert Connection(T0, Intervals()).evidence(after(waited_s)) == evidence


# Silence


def silent(topic: str | None = None, count: int = 3, registered_s: float | None = 31, at_s: float = 60) -> Silence:
    silence = Silence(topic, T0)
    for _ in range(count):
        silence.record_backfilled(None if registered_s is None else after(registered_s), None, after(at_s))
    return silence


@pytest.mark.parametrize(
    ("topic", "evidence"),
    [
        (None, ("no announcement received from the monitor's stream since 12:00:00 UTC, while the monitor registered 3 "
          "TF files: check the daemon's FASTMON_NOTIFY, and that the monitor receives from the broker")),
        ("/topic/x", ("no announcement received from /topic/x since 12:00:00 UTC, while the monitor registered 3 TF "
          "files: set --topic to one of the daemon's FASTMON_ANNOUNCE")),
    ],
)  # fmt: skip
def test_three_tf_files_that_nobody_announced_are_told(topic: str | None, evidence: str) -> None:
    assert silent(topic).evidence(after(60)) == evidence
    assert silent(topic, count=2).evidence(after(60)) is None


def test_it_is_told_for_ten_minutes_after_the_last_one_or_until_an_announcement() -> None:
    silence = silent()
    assert silence.evidence(after(660)) is not None
    assert silence.evidence(after(660.001)) is None
    silence.end(after(61))
    assert silence.evidence(after(61)) is None


@pytest.mark.parametrize(("registered_s", "is_told"), [(30, False), (30.001, True), (None, False)])
def test_tf_files_count_if_they_were_registered_clearly_later(registered_s: float | None, is_told: bool) -> None:
    assert (silent(registered_s=registered_s).evidence(after(60)) is not None) is is_told


@pytest.mark.parametrize(("compared_s", "is_told"), [(-0.001, False), (0, True)])
def test_or_if_their_run_was_compared_since(compared_s: float, is_told: bool) -> None:
    silence = Silence(None, T0)
    for _ in range(3):
        silence.record_backfilled(None, after(compared_s), after(60))
    assert (silence.evidence(after(60)) is not None) is is_told


# Agents


def test_agents_that_no_pattern_matches_are_named() -> None:
    unmatched = UnmatchedAgents(MessageFilter(types=(), agents=("x*", "y")))
    for name in ("b" * 200, "a"):
        unmatched.record({"processed_by": name})
    assert unmatched.evidence() is None
    for name in ("c", "d", "e", "f"):
        unmatched.record({"processed_by": name})
    assert unmatched.evidence() == (
        f"--agents x*,y matches none of the 6 TF files announced: their agents are a, {'b' * 100}, c, d, e"
    )
    unmatched.record({"processed_by": "xyz"})
    unmatched.record({"processed_by": "a"})
    assert unmatched.evidence() is None


# The log


def test_a_subject_has_a_line_a_minute_and_the_next_one_tells_how_many_were_held_back() -> None:
    at = 0.0
    log = LogThrottle(lambda: at)
    with logged() as lines:
        for at, subject in (
            (0, "a"),
            (0, "a"),
            (59.9, "a"),
            (59.9, "b"),
            (60, "a"),
            (119.9, "a"),
            (121, "a"),
            (181, "a"),
        ):
            log.record(subject, f"{subject} at {at}")
        log.record("c", "x" * 400)
    assert lines == [
        "a at 0\n", "b at 59.9\n", "a at 60 (2 more since the last line)\n", "a at 121 (1 more since the last line)\n",
        "a at 181\n", f"{'x' * 300}\n",
    ]  # fmt: skip


def test_the_log_forgets_when_there_are_a_hundred_subjects() -> None:
    log = LogThrottle(lambda: 0.0)
    with logged() as lines:
        for number in range(100):
            log.record(str(number), "x")
        log.record("0", "held back")
        assert len(lines) == 100
        log.record("100", "x")
        log.record("0", "again")
    assert lines[100:] == ["x\n", "again\n"]
