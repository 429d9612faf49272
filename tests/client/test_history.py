"""The history of the charts: rates, lags, missing STFs, outages and the boundaries of runs, over a day."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

from fastmon_client.dashboard.history import MAX_MARKS, RANGES, History
from fastmon_client.rates import RateSeries
from tests.client.snapshots import dead, run, snapshot, tiles, verdict

BEGIN = datetime(2026, 11, 21, 20, tzinfo=UTC)


class Driver:
    """Feeds a history as the dashboard does, every 5 s."""

    def __init__(self) -> None:
        self.history, self.rates, self.at = History(), RateSeries(), BEGIN

    def advance(self, seconds: int, rate: int = 0, found: dict[str, Any] | None = None) -> None:
        """*rate*: TF files per second."""
        for _ in range(0, seconds, 5):
            for _ in range(5 * rate):
                self.rates.add(self.at + timedelta(seconds=1))
            self.at += timedelta(seconds=5)
            ends_at, counts = self.rates.until(self.at)
            shown = {"bin_s": 5, "ends_at": ends_at.isoformat(), "tf_files": counts}
            self.history.add({**(found or snapshot()), "at": self.at.isoformat(), "rates": shown})

    def last(self, name: str, column: str, count: int = 1) -> list[Any]:
        """The last known values of a column."""
        return [value for value in self.history.view(name)[column] if value is not None][-count:]


def test_each_range_has_its_points() -> None:
    driver = Driver()
    driver.advance(60, 3)
    for name, (step, count) in RANGES.items():
        found = driver.history.view(name)
        assert len(found["at"]) == count == len(found["rate_hz"])
        assert found["at"][1] - found["at"][0] == step == found["step_s"]


def test_rates_are_per_second_in_each_range() -> None:
    driver = Driver()
    driver.advance(300, 3)
    assert driver.last("15m", "rate_hz", 10) == [3.0] * 10
    assert driver.last("1h", "rate_hz", 3) == [3.0] * 3


def test_rates_of_before_the_start_are_those_of_the_tables() -> None:
    driver = Driver()
    driver.advance(60, 3)
    begin = int(BEGIN.timestamp())
    earlier = {begin - 5: 10, begin - 60: 20, begin - 65: 40, begin: 7, begin - 3 * 3600: 60}
    found = driver.history.view("15m", earlier)
    assert [found["rate_hz"][found["at"].index(begin - back)] for back in (65, 60, 10, 5)] == [8.0, 4.0, None, 2.0]
    assert driver.history.view("15m", earlier)["rate_hz"][-2] == 3.0
    hour = driver.history.view("1h", earlier)
    assert [hour["rate_hz"][hour["at"].index(begin - back)] for back in (120, 60)] == [round(40 / 60, 4), 0.5]
    day = driver.history.view("8h", earlier)
    assert day["rate_hz"][day["at"].index(begin - 3 * 3600)] == 1.0


def test_a_minute_keeps_its_rate_while_the_counts_of_a_part_of_it_are_dropped() -> None:
    driver = Driver()
    driver.advance(60, 3)
    driver.advance(15 * 60 - 30, 1)
    assert len(driver.rates.until(driver.at)[1]) * 5 == 15 * 60, "half of the first minute"
    found = driver.history.view("1h")
    assert found["rate_hz"][found["at"].index(int(BEGIN.timestamp()))] == 3.0


def test_a_day_is_kept_and_no_more() -> None:
    driver = Driver()
    driver.advance(3600, 1)
    for hour in range(26):
        driver.at += timedelta(hours=1)
        driver.advance(5, 0, snapshot(alarms=[], runs=[run(f"{hour}")]))
    assert len(pickle.dumps(driver.history)) < 100_000
    assert driver.last("24h", "rate_hz")[0] == 0.0


def test_nothing_is_known_of_the_time_before_the_start() -> None:
    driver = Driver()
    driver.advance(20, 1)
    rates = driver.history.view("15m")["rate_hz"]
    assert rates[:170] == [None] * 170


def test_without_tf_files_the_rate_is_zero_since_the_start() -> None:
    driver = Driver()
    driver.advance(20)
    found = driver.history.view("15m")
    first = found["at"].index(int(BEGIN.timestamp()) + 5)
    assert found["rate_hz"][first - 1 : first + 2] == [None, 0.0, 0.0]


def test_a_dead_stream_leaves_a_gap_not_a_zero() -> None:
    driver = Driver()
    driver.advance(60, 2)
    driver.advance(60, 0, dead())
    driver.advance(60, 2)
    found = driver.history.view("15m")
    gap = [place for place, value in enumerate(found["rate_hz"]) if value is None and place > 150]
    assert len(gap) >= 11
    assert [found["lag_p50_s"][place] for place in gap[1:-1]] == [None] * len(gap[1:-1])


def unknown(driver: Driver) -> dict[str, Any]:
    return verdict("UNKNOWN", since=driver.at.isoformat(), reason="no heart-beat")


def test_outages_have_begin_end_and_reason() -> None:
    driver = Driver()
    driver.advance(60, 2)
    driver.advance(60, 0, dead(verdict=unknown(driver)))
    [[begin, end, word, reason]] = driver.history.view("15m")["outages"]
    assert (end, word) == (None, "UNKNOWN")
    assert "no heart-beat" in reason
    driver.advance(60, 2)
    [[_, end, _, _]] = driver.history.view("15m")["outages"]
    assert 55 <= end - begin <= 65


def test_an_outage_begins_when_it_began_not_when_it_was_noticed() -> None:
    driver = Driver()
    driver.advance(120, 0)
    since = (driver.at - timedelta(seconds=60)).isoformat()
    driver.advance(60, 0, snapshot(verdict=verdict("NOT FLOWING", since=since)))
    [[begin, _, _, _]] = driver.history.view("15m")["outages"]
    assert begin == datetime.fromisoformat(since).timestamp()


def test_no_run_is_no_outage() -> None:
    driver = Driver()
    driver.advance(60, 0, snapshot(runs=[], verdict=verdict("NOT FLOWING", state="unknown")))
    assert driver.history.view("15m")["outages"] == []


def test_runs_begin_and_end_where_the_control_says() -> None:
    driver = Driver()
    driver.advance(30, 1, snapshot(runs=[run("1", began_at="2026-11-21T19:55:00+00:00")]))
    ended = run("1", state="complete", began_at="2026-11-21T19:55:00+00:00", ended_at="2026-11-21T20:00:20+00:00")
    driver.advance(30, 1, snapshot(runs=[run("2", began_at=None), ended]))
    found = driver.history.view("15m")["boundaries"]
    named = [(datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S"), name, what) for at, name, what in found]
    assert named == [("19:55:00", "1", "start"), ("20:00:35", "2", "start"), ("20:00:20", "1", "end")]


def test_missing_is_the_most_of_each_minute_and_none_while_unknown() -> None:
    driver = Driver()
    driver.advance(60, 1)
    assert driver.last("1h", "missing") == [3]
    unknown = tiles(missing={"count": None, "run": None, "state": "unknown", "text": ""})
    driver.at += timedelta(minutes=2)
    driver.advance(60, 1, snapshot(tiles=unknown))
    assert driver.history.view("1h")["missing"][-1] is None


def test_marks_are_bounded() -> None:
    driver = Driver()
    for number in range(MAX_MARKS + 20):
        driver.advance(5, 0, snapshot(runs=[run(f"{number}")]))
        driver.advance(5, 0, dead(runs=[run(f"{number}")]))
    assert len(driver.history.view("24h")["boundaries"]) <= MAX_MARKS
    assert len(driver.history.view("24h")["outages"]) <= MAX_MARKS


def test_runs_are_bounded() -> None:
    driver = Driver()
    sizes = []
    for number in range(3 * MAX_MARKS):
        driver.history.add(snapshot(runs=[run(f"{number:0100}", began_at=None, state="unknown")]))
        sizes.append(len(pickle.dumps(driver.history)))
    assert sizes[-1] <= sizes[MAX_MARKS]
