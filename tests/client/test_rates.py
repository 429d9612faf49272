"""TF files per time: bins, rates, and the usual rate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fastmon_client.rates import EarlierRates, RateSeries

AT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
"""The begin of a bin, and of a minute."""


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def series(*seconds: float) -> RateSeries:
    found = RateSeries()
    for each in seconds:
        found.add(after(each))
    return found


def test_bins_of_15_minutes_end_with_that_of_now() -> None:
    found = series(0, 4.999, 5, 9)
    end, counts = found.until(after(9.5))
    assert (end, len(counts), counts[-3:]) == (after(10), 180, [0, 2, 2])
    assert found.until(after(10))[1][-3:] == [2, 2, 0]
    assert found.until(after(895))[1][:2] == [2, 2]
    assert found.until(after(900))[1][:2] == [2, 0]
    assert sum(found.until(after(905))[1]) == 0


@pytest.mark.parametrize(
    ("added", "at_s", "rate_hz"),
    [
        ([], 5, 0.0), ([0], 0.5, 1.0), ([0, 0.2], 0.5, 2.0), ([0, 1, 2, 3], 4, 1.0), ([0, 20], 40, 0.05),
        ([0, 30], 59, 2 / 59), ([0, 30], 60, 1 / 55), ([0, 30], 64.9, 1 / 59.9), ([0, 4], 60, 0.0),
    ],
)  # fmt: skip
def test_the_rate_is_over_the_last_minute_or_since_the_first(added: list[float], at_s: float, rate_hz: float) -> None:
    assert series(*added).rate_hz(after(at_s)) == pytest.approx(rate_hz)


def test_the_usual_rate_is_the_median_of_earlier_minutes_with_tf_files() -> None:
    found = series(0, *[60] * 6, *[180] * 12)
    assert found.usual_rate_hz(after(299)) == pytest.approx(6 / 60)
    assert series(0, 60).usual_rate_hz(after(299)) is None
    assert series(0, 60, 120).usual_rate_hz(after(299)) == pytest.approx(1 / 60)
    assert series(0, 60, 120).usual_rate_hz(after(179)) is None  # the last minute is not an earlier one
    assert series(0, 60, 120).usual_rate_hz(after(185)) == pytest.approx(1 / 60)


def test_tf_files_of_one_moment_all_count_and_old_bins_are_dropped() -> None:
    found, same = RateSeries(), after(0)
    for _ in range(3):
        found.add(same)
    assert found.until(same)[1][-1] == 3
    for number in range(1, 361):
        found.add(after(5 * number))
    assert len(found._counts) == 180
    assert sum(found.until(after(1800))[1]) == 180


@pytest.mark.parametrize(("seconds", "counts"), [(-86400.5, 0), (-86400, 1), (-1, 1), (-0.001, 1), (0, 0), (1, 0)])
def test_a_day_before_the_start_is_counted(seconds: float, counts: int) -> None:
    rates = EarlierRates(AT)
    rates.add(after(seconds))
    assert sum(rates.counts.values()) == counts


def test_bins_before_the_start_begin_at_multiples_of_five_seconds() -> None:
    rates = EarlierRates(after(2))
    for seconds in (-5, -1, 0, 1.9):
        rates.add(after(seconds))
    begin = int(AT.timestamp())
    assert rates.counts == {begin - 5: 2, begin: 2}
