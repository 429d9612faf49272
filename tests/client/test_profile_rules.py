"""The profile of a run at the edges of its rules, and every word of a comparison."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastmon_client import profile as module
from fastmon_client.profile import Profile, compare
from tests.client.state_driver import T0, stf


def tf_rows(*made_s: float, size: int | None = 10, fraction: float | None = 1.0) -> list[dict[str, Any]]:
    return [{"created_at": (T0 + timedelta(seconds=each)).isoformat(), "file_size_bytes": size,
             "metadata": {"selection_fraction": fraction}} for each in made_s]  # fmt: skip


def profile(*since_s: float, at_s: float = 3600, began: bool = True) -> Profile:
    """Of a run with STFs 1, 2, ... that were registered then."""
    found = Profile("7")
    found.record_row({"start_time": T0.isoformat() if began else None})
    listing = [(stf(number), T0 + timedelta(seconds=each)) for number, each in enumerate(since_s, 1)]
    found.record_listing(reversed(listing), T0 + timedelta(seconds=at_s))
    return found


def test_a_run_of_which_nothing_is_known() -> None:
    assert Profile("7").row() == {
        "run": "7", "began_at": None, "step_s": 60, "stfs": 0, "read": 0, "one_of": 1, "to_read": 0, "points": [],
    }  # fmt: skip
    assert not Profile("7").has_ended


def test_stfs_are_read_by_time_and_the_first_is_the_begin_that_nobody_told() -> None:
    found = profile(9, 5, 5, 1, began=False)
    assert found.to_read() == [stf(4), stf(2), stf(3), stf(1)]
    assert found.row()["began_at"] == (T0 + timedelta(seconds=1)).isoformat()


@pytest.mark.parametrize(("age_s", "count"), [(29.999, 0), (30, 1)])
def test_a_young_stf_is_not_read(age_s: float, count: int) -> None:
    assert len(profile(0, at_s=age_s).to_read()) == count


@pytest.mark.parametrize(("age_s", "is_read_again"), [(299.999, True), (300, False)])
def test_an_stf_without_tf_files_is_read_again_for_five_minutes(age_s: float, is_read_again: bool) -> None:
    found = profile(0, 1)
    found.record_tf_files(stf(1), [])
    found.record_tf_files(stf(2), tf_rows(2))
    assert found.to_read() == []
    found.record_listing([(stf(1), T0), (stf(2), T0)], T0 + timedelta(seconds=age_s))
    assert found.to_read() == ([stf(1)] if is_read_again else [])


def test_every_number_of_a_minute() -> None:
    found = profile(0, 30, 59.9, 60, 119)
    found.record_tf_files(stf(1), tf_rows(1, 2.5))
    found.record_tf_files(stf(2), tf_rows(20))  # before it: the clocks differ
    found.record_tf_files(stf(3), [])
    found.record_tf_files(stf(4), [*tf_rows(61), *tf_rows(62, size=None)])
    row = found.row()
    assert (row["read"], row["to_read"], row["stfs"]) == (4, 1, 5)
    assert row["points"] == [
        {"rate_hz": 0.05, "lag_s": 2.5, "missing": 0.3333, "size_bytes": 15},
        {"rate_hz": 0.0667, "lag_s": 2.0, "missing": 0.0, "size_bytes": None},
    ]


def test_minutes_without_stfs_are_unknown() -> None:
    points = profile(0, 130).row()["points"]
    assert points == [{"rate_hz": None, "lag_s": None, "missing": None, "size_bytes": None}] * 3


@pytest.mark.parametrize(("at_s", "count"), [(149.999, 1), (150, 2)])
def test_a_minute_counts_when_all_of_it_is_settled(at_s: float, count: int) -> None:
    assert len(profile(0, 60, at_s=at_s).row()["points"]) == count


def test_a_day_of_minutes_is_known_and_what_was_before_the_begin_is_not() -> None:
    day = 24 * 3600
    assert len(profile(-1, day - 1, day, at_s=2 * day).row()["points"]) == 24 * 60
    assert profile(-1).row()["points"] == []


@pytest.mark.parametrize(("count", "one_of"), [(4, 1), (5, 2), (8, 2), (9, 4)])
def test_one_of_a_power_of_two_is_read(count: int, one_of: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_READ", 4)
    found = profile(*range(count))
    assert (found.one_of, found.to_read()) == (one_of, [stf(number) for number in range(1, count + 1, one_of)])
    found.record_tf_files(stf(2), tf_rows(1))  # was read before the run grew
    assert found.row()["read"] == (one_of == 1)


def test_the_first_answer_tells_which_stfs_are_selected() -> None:
    found = profile(0, 1, 2, 3)
    found.record_tf_files(stf(1), tf_rows(1, fraction=0.5))
    assert found.to_read() == [stf(3)]


def point(**changes: Any) -> dict[str, Any]:
    return {"rate_hz": 1.04, "lag_s": 0.05, "missing": 0.0126, "size_bytes": 1500, **changes}


def row(*points: dict[str, Any], **changes: Any) -> Any:
    return {"run": "7", "began_at": None, "step_s": 60, "stfs": 9, "read": 9, "one_of": 1, "to_read": 0,
            "points": list(points), **changes}  # fmt: skip


UNKNOWN = dict.fromkeys(point())


@pytest.mark.parametrize(
    ("now", "good", "problem", "text"),
    [
        (row(point()), row(point(), run="6"), "",
         ("run 7 after 1 min 0 s, in brackets reference run 6: rate 1.0 TF files/s (1.0 TF files/s), "
          "lag 50 ms (50 ms), missing 1.3 % (1.3 %), size 1.5 kB an STF (1.5 kB an STF)")),
        (row(point(), UNKNOWN), row(point(), run="6"), "",
         ("run 7 after 2 min 0 s, in brackets reference run 6, which was shorter: rate ? (?), lag ? (?), "
          "missing ? (?), size ? (?)")),
        (row(), row(point(), run="6"), "", "reference run 6: no minute of a run to compare yet"),
        (None, row(point(), run="6"), "", "reference run 6: no minute of a run to compare yet"),
        (None, row(run="6"), "", "reference run 6: not to be had: the monitor has no STFs of it"),
        (None, row(run="6", to_read=1), "", "reference run 6: 9 of 10 STFs read"),
        (None, row(run="6", to_read=1), "no such run", "reference run 6: not to be had: no such run"),
    ],
)  # fmt: skip
def test_every_word_of_a_comparison(now: Any, good: Any, problem: str, text: str) -> None:
    found = compare(now, good, problem)
    is_compared = text.startswith("run")
    minutes = len(now["points"]) if is_compared else 0
    assert found == {
        "run": "6", "text": text, "current": "7" if is_compared else None,
        "since_start_s": 60.0 * minutes if is_compared else None, "now": now["points"][-1] if is_compared else None,
        "then": good["points"][0] if minutes == 1 else None,
    }  # fmt: skip
